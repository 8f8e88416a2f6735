"""Keys and values of all slots in one store."""

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from raybt.engine.anatomy import Anatomy
from raybt.engine.kernels import by_triton
from raybt.engine.prefill import pairs_of, stacked
from raybt.engine.rotary import ROTARY

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
        if self.owner.kernel:
            ROTARY.write(key_states, value_states, self.all_keys, self.all_values, where)
        else:
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
        whole: all of them as one tensor, where they are alike and on one device.
        kernel: whether a kernel writes the new tokens' keys and values.
        places: [slots] where each slot writes its next token, counted over all slots' lengths.
        window: attended length of this step, a multiple of 16 that covers every live slot.
    """

    def __init__(self, anatomy: Anatomy, slots: int, length: int, pairs: list[tuple[Tensor, Tensor]] | None = None):
        pairs = pairs or pairs_of(anatomy, (0,))
        layers = [stacked(*pair) for pair in pairs]
        shapes = [(2, slots, rounded(length), *layer.shape[2:]) for layer in layers]
        device, like = anatomy.device, layers[0]
        self.whole: Tensor | None = None
        if len({(layer.device, layer.shape) for layer in layers}) == 1:
            self.whole = torch.zeros((len(layers), *shapes[0]), dtype=like.dtype, device=like.device)
            stores = list(self.whole)
        else:
            stores = [torch.zeros(shape, dtype=layer.dtype, device=layer.device)
                      for shape, layer in zip(shapes, layers, strict=True)]  # fmt: skip
        self.stores = stores
        self.kernel = by_triton(device) and self.whole is not None
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

    def fill(self, slot: int, prefix: Tensor | list[Tensor]) -> None:
        """Copy a prefilled prompt into a slot.

        Args:
            prefix: [layers, 2, tokens, kv heads, dim], or a tensor for each layer.
        """
        if isinstance(prefix, Tensor) and self.whole is not None:
            self.whole[:, :, slot, : prefix.shape[2]] = prefix
            return
        for store, layer in zip(self.stores, prefix, strict=True):
            store[:, slot, : layer.shape[1]] = layer

    def clear(self, slot: int) -> None:
        """Forget a slot whose values went NaN: a masked NaN still spoils the sum over values."""
        for store in self.stores:
            store[:, slot] = 0
