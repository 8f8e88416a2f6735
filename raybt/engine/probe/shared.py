"""One prefilled text, read by many single-token rows at once, without a copy.

Each row stands at its own position of the text, sees the text before it and its own new token, and nothing of the
other rows. Keys and values of the text exist once: rows fold into the query's length of one attention over them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import CacheLayerMixin
from transformers.masking_utils import sdpa_mask

from raybt.engine.anatomy import Anatomy
from raybt.engine.masks import Masks
from raybt.engine.packed import packed, packs_of
from raybt.engine.prefill import pairs_of
from raybt.engine.probe.copied import CopiedText

NAME = "raybt_shared"


class TextLayer(CacheLayerMixin):
    """Holds one layer's keys and values of the text ([kv heads, tokens, dim]); new ones pass through unkept."""

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values = keys, values
        self.tokens = keys.shape[1]
        self.is_initialized = True

    def lazy_initialization(self, key_states, value_states):
        """Nothing to do: the text is there."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.tokens + 1, 0

    def get_seq_length(self) -> int:
        return self.tokens

    def get_max_length(self) -> int:
        return self.tokens + 1


def prefilled_text(anatomy: Anatomy, tokens: tuple[int, ...]) -> "Text | CopiedText":
    """The text, read in the way that the model's attention allows."""
    return Text(anatomy, tokens) if anatomy.texts == "shared" else CopiedText(anatomy, tokens)


class Text(Cache):
    """A prefilled text.

    Attributes:
        tokens: the text.
        most_rows: that may read it together, whatever their logits take.
    """

    most_rows = 1 << 20

    @torch.inference_mode()
    def __init__(self, anatomy: Anatomy, tokens: tuple[int, ...]):
        self.anatomy, self.tokens = anatomy, tokens
        super().__init__(layers=[TextLayer(*pair) for pair in pairs_of(anatomy, tokens)])

    @torch.inference_mode()
    def read(self, positions: Tensor) -> Tensor:
        """Logits after reading each row's token again at its place in the text.

        Args:
            positions: [rows] positions in the text.

        Returns:
            [rows, vocabulary].
        """
        ids = torch.tensor(self.tokens, device=positions.device)[positions][:, None]
        with packed(packs_of(self.anatomy.model)), self._reading(positions):
            output = self.anatomy.model(
                input_ids=ids,
                position_ids=positions[:, None],
                attention_mask=self._masks(positions),
                past_key_values=self,
                use_cache=True,
            )
        return output.logits[:, -1]

    def _masks(self, positions: Tensor) -> Any:
        """[rows, 1, 1, tokens] bool: the text before each row's position; the row's own token is always seen."""
        masks = Masks(self.anatomy.model, exact=True)(positions, len(self.tokens)).masks
        own = torch.arange(len(self.tokens), device=positions.device) == positions[:, None, None, None]
        return {kind: mask & ~own for kind, mask in masks.items()} if isinstance(masks, dict) else masks & ~own

    @contextmanager
    def _reading(self, positions: Tensor) -> Iterator[None]:
        CURRENT.append(self)
        try:
            with _attention(self.anatomy.model, NAME):
                yield
        finally:
            CURRENT.pop()


CURRENT: list[Text] = []  # the text that `attend_shared` reads, for transformers hands it none


def attend_shared(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Softmax attention over the shared text and each row's own token.

    Args:
        query: [rows, heads, 1, dim].
        key, value: [rows, kv heads, 1, dim], each row's own.
        attention_mask: [rows, 1, 1, tokens] bool.
        s_aux: [heads] attention sinks, logits that take their share of the softmax and give nothing (GPT-OSS).

    Returns:
        [rows, 1, heads, dim], and no weights.
    """
    rows, heads, _, dim = query.shape
    layer = CURRENT[-1].layers[module.layer_idx]
    kv = key.shape[1]
    group = heads // kv
    grouped = query.reshape(rows, kv, group, dim) * (dim**-0.5 if scaling is None else scaling)
    folded = grouped.permute(1, 0, 2, 3).reshape(kv, rows * group, dim)
    before = torch.bmm(folded, layer.keys.transpose(1, 2)).view(kv, rows, group, -1)  # [kv, rows, group, tokens]
    own = (grouped * key).sum(-1).permute(1, 0, 2)[..., None]  # [kv, rows, group, 1]
    if softcap is not None:
        before, own = (softcap * torch.tanh(scores / softcap) for scores in (before, own))
    before = before.masked_fill(~attention_mask[:, 0, 0][None, :, None], -torch.inf)
    scores = [before, own]
    if s_aux is not None:
        scores.append(s_aux.to(own.dtype).view(kv, 1, group, 1).expand_as(own))
    weights = torch.cat(scores, dim=-1).float().softmax(-1).to(value.dtype)
    tokens = before.shape[-1]
    read = torch.bmm(weights[..., :tokens].reshape(kv, rows * group, -1), layer.values).view(kv, rows, group, -1)
    out = read + weights[..., tokens : tokens + 1] * value[:, :, 0].transpose(0, 1)[:, :, None]
    return out.permute(1, 0, 2, 3).reshape(rows, 1, heads, -1), None


AttentionInterface.register(NAME, attend_shared)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def _attention(model: Any, name: str) -> Iterator[None]:
    stock = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = stock
