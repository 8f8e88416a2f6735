"""One prefilled text, copied into a slot for every row that reads it: the decode step's own way, for any attention."""

from typing import Any

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy
from raybt.engine.attention import decoding
from raybt.engine.cache import GRAIN, SlotCache, rounded
from raybt.engine.masks import Masks
from raybt.engine.packed import packed, packs_of
from raybt.engine.prefill import pairs_of, stacked

BYTES = 1 << 30
"""Of keys and values of one step, at most: a long text is read by fewer rows at once."""


class CopiedText:
    """A prefilled text. Attributes as `shared.Text`."""

    @torch.inference_mode()
    def __init__(self, anatomy: Anatomy, tokens: tuple[int, ...]):
        self.anatomy, self.tokens = anatomy, tokens
        self.pairs = pairs_of(anatomy, tokens)
        self.stores = [stacked(*pair) for pair in self.pairs]  # [2, tokens, kv heads, dim] each
        self.most_rows = max(GRAIN, BYTES // sum(store.nbytes for store in self.stores))

    @torch.inference_mode()
    def read(self, positions: Tensor) -> Tensor:
        """Logits after reading each row's token again at its place in the text, [rows, vocabulary]."""
        model: Any = self.anatomy.model
        cache = SlotCache(self.anatomy, len(positions), len(self.tokens), self.pairs)
        cache.window = rounded(len(self.tokens))
        cache.stand(positions)
        for store, text in zip(cache.stores, self.stores, strict=True):
            store[:, :, : len(self.tokens)] = text[:, None]
        sight = Masks(model)(positions, cache.window)
        with packed(packs_of(model)), decoding(model, sight):
            output = model(
                input_ids=torch.tensor(self.tokens, device=positions.device)[positions][:, None],
                position_ids=positions[:, None],
                attention_mask=sight.masks,
                past_key_values=cache,
                use_cache=True,
            )
        return output.logits[:, -1]
