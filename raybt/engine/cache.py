"""Keys and values: one store for all slots, and prompts prefilled once for all their rows."""

import warnings
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from raybt.engine.anatomy import Anatomy
from raybt.engine.hooks import Hooks
from raybt.engine.noise import integers
from raybt.engine.packed import packed, packs_of
from raybt.engine.request import Request

warnings.filterwarnings(
    "ignore", "`past_key_values` is deprecated", FutureWarning
)  # 5.24 renames it; 5.0 to 5.23 need it

GRAIN = 16
"""Attended lengths are multiples of this: other lengths make a row's logits depend on its neighbours' lengths."""


def rounded(length: int) -> int:
    return -(-length // GRAIN) * GRAIN


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values of all slots, each slot at its own length.

    Assumes one new token a slot, and that its owner was told where the slots stand (`SlotCache.stand`).

    Args:
        store: [2, slots, length, kv heads, dim], as wide as the wider of keys and values.
        widths: of keys and values (DeepSeek's latent attention has values narrower than keys).
    """

    def __init__(self, store: Tensor, widths: tuple[int, int], owner: "SlotCache"):
        super().__init__()
        self.store = store
        parts = [
            part if part.shape[-1] == width else part[..., :width] for part, width in zip(store, widths, strict=True)
        ]
        self.all_keys, self.all_values = parts  # [slots, length, kv heads, dim]
        self.flat_keys, self.flat_values = (_flat(part) for part in parts)
        self.owner = owner
        self.is_initialized = True

    def lazy_initialization(self, key_states, value_states):
        """Nothing to do: the store is allocated whole."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Write one token a slot ([slots, kv heads, 1, dim]); give back all that may be attended to."""
        where = self.owner.places.to(self.store.device)  # a model on several devices has each store beside its layer
        window = self.owner.window
        self.flat_keys.index_copy_(0, where, key_states.reshape(len(where), *self.flat_keys.shape[1:]))
        self.flat_values.index_copy_(0, where, value_states.reshape(len(where), *self.flat_values.shape[1:]))
        return self.all_keys[:, :window].transpose(1, 2), self.all_values[:, :window].transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.window, 0

    def get_seq_length(self) -> int:
        return self.owner.window

    def get_max_length(self) -> int:
        return self.store.shape[2]


def _flat(part: Tensor) -> Tensor:
    """[slots * length, kv heads * dim], or [slots * length, kv heads, dim] where keys are wider than values."""
    return part.flatten(2).flatten(0, 1) if part.is_contiguous() else part.flatten(0, 1)


class SlotCache(Cache):
    """The keys and values of every slot.

    Args:
        pairs: keys and values of any text, for their shapes; None reads a token.

    Attributes:
        stores: for each layer [2, slots, length, kv heads, dim], on the layer's own device.
        places: [slots] where each slot writes its next token, counted over all slots' lengths.
        window: attended length of this step, a multiple of 16 that covers every live slot.
    """

    def __init__(self, anatomy: Anatomy, slots: int, length: int, pairs: list[tuple[Tensor, Tensor]] | None = None):
        pairs = pairs or pairs_of(anatomy, (0,))
        layers = [stacked(*pair) for pair in pairs]
        shapes = [(2, slots, rounded(length), *layer.shape[2:]) for layer in layers]
        device, like = anatomy.device, layers[0]
        if len({(layer.device, layer.shape) for layer in layers}) == 1:
            stores = list(torch.zeros((len(layers), *shapes[0]), dtype=like.dtype, device=like.device))
        else:
            stores = [torch.zeros(shape, dtype=layer.dtype, device=layer.device)
                      for shape, layer in zip(shapes, layers, strict=True)]  # fmt: skip
        self.stores = stores
        self.starts = torch.arange(slots, device=device) * rounded(length)
        self.places = self.starts
        self.window = GRAIN
        widths = [(keys.shape[-1], values.shape[-1]) for keys, values in pairs]
        super().__init__(layers=[SlotLayer(*layer, self) for layer in zip(stores, widths, strict=True)])

    @property
    def capacity(self) -> int:
        return self.stores[0].shape[2]

    def stand(self, positions: Tensor) -> None:
        """Say where each slot's next token stands, [slots]."""
        self.places = self.starts + positions

    def fill(self, slot: int, prefix: list[Tensor]) -> None:
        """Copy a prefilled prompt (for each layer [2, tokens, kv heads, dim]) into a slot."""
        for store, layer in zip(self.stores, prefix, strict=True):
            store[:, slot, : layer.shape[1]] = layer

    def clear(self, slot: int) -> None:
        """Forget a slot whose values went NaN: a masked NaN still spoils the sum over values."""
        for store in self.stores:
            store[:, slot] = 0


@dataclass(frozen=True)
class Prefix:
    """A prefilled prompt.

    Args:
        store: for each layer [2, tokens, kv heads, dim] of all prompt tokens but the last; None for one of one token.
        touched: [sites] positions at which each hook changed its output; None where none did.
    """

    store: list[Tensor] | None
    touched: Tensor | None = None


class Prefixes:
    """Keys and values of prompts, computed once and shared by every row that starts from the prompt.

    A prompt is prefilled alone, so that its numbers do not depend on which prompts came with it. The last
    prompt token is left out: it is each row's first step. Rows whose intervention is on in the prompt share theirs
    with the rows of the same prompt and intervention only.
    """

    def __init__(self, anatomy: Anatomy, hooks: Hooks, kept: int = 64):
        self.anatomy, self.hooks, self.kept = anatomy, hooks, kept
        self._prefixes: OrderedDict[tuple, Prefix] = OrderedDict()

    def get(self, request: Request) -> Prefix:
        name = self._name(request)
        if name not in self._prefixes:
            self._prefixes[name] = self._compute(request)
            if len(self._prefixes) > self.kept:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(name)
        return self._prefixes[name]

    def _name(self, request: Request) -> tuple:
        if not request.touches_prompt:
            return (request.prompt,)
        drawn = any(term.operation == "resample" for term in request.active)
        return (request.prompt, request.active, request.stream if drawn else None)

    def _compute(self, request: Request) -> Prefix:
        tokens = request.prompt[:-1]
        if not tokens:
            return Prefix(None)
        if not request.touches_prompt:
            return Prefix(prefilled(self.anatomy, tokens))
        draws = torch.from_numpy(integers(request.stream, len(tokens))).to(self.anatomy.device)
        with self.hooks.over_prompt(request.active, len(tokens), draws) as live:
            store = prefilled(self.anatomy, tokens, whole=True)
        return Prefix(store, live.touched.sum(1, dtype=torch.int32))


class _Enough(Exception):
    """Every layer has its keys and values; what the pass would still compute, nobody reads."""


class _PrefillCache(DynamicCache):
    """Ends the pass once the last of `layers` layers has stored its keys and values; 0 lets it run to its end."""

    def __init__(self, layers: int):
        super().__init__()  # without a config: with one, sliding layers would forget
        self.last = layers - 1

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs):
        found = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self.last:
            raise _Enough
        return found


def prefilled(anatomy: Anatomy, tokens: tuple[int, ...], whole: bool = False) -> list[Tensor]:
    """Keys and values of `tokens`, for each layer [2, tokens, kv heads, dim] on the layer's device.

    Args:
        whole: run the pass to its end, so that the last layer's hooks act too.
    """
    return [stacked(*pair) for pair in pairs_of(anatomy, tokens, whole)]


@torch.inference_mode()
def pairs_of(anatomy: Anatomy, tokens: tuple[int, ...], whole: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Keys and values as the model has them, for each layer that stores any [kv heads, tokens, dim]."""
    cache: Any = _PrefillCache(0 if whole else anatomy.n_layers)
    ids = torch.tensor([tokens], device=anatomy.device)
    positions = torch.arange(len(tokens), device=anatomy.device)[None]
    with packed(packs_of(anatomy.model)), suppress(_Enough):
        anatomy.model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]


def stacked(keys: Tensor, values: Tensor) -> Tensor:
    """[2, tokens, kv heads, dim], the narrower of the two filled up with zeros."""
    wide = max(keys.shape[-1], values.shape[-1])
    parts = [part if part.shape[-1] == wide else pad(part, (0, wide - part.shape[-1])) for part in (keys, values)]
    return torch.stack(parts).transpose(1, 2).contiguous()
