"""Attention of one new token a slot over that slot's keys and values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from raybt.engine.kernels import HAVE_TRITON
from raybt.engine.kernels.cpu_attend import attend_slots as attend_on_cpu
from raybt.engine.kernels.cpu_attend import fitting

NAME = "raybt"  # what the decode step sets in the place of "sdpa"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot product attention, with the query heads that share a key head folded into the query's length.

    So keys and values are read once for all heads of a group, not once a head. On a GPU and on a CPU a kernel also
    reads no more of them than each slot's own, where there is one that fits.

    Args:
        query: [slots, heads, 1, dim].
        key, value: [slots, kv heads, window, dim].
        attention_mask: [slots, 1, 1, window] bool, true where a slot may look.

    Returns:
        [slots, 1, heads, dim], and no weights.
    """
    if query.shape[2] == 1 and STANDING:
        out = _by_kernel(query, key, value, scaling, kwargs.get("softcap"), kwargs.get("sliding_window"))
        if out is not None:
            return out, None
    if query.shape[2] != 1 or key.shape[1] == query.shape[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    slots, heads, _, dim = query.shape
    folded = query.reshape(slots, key.shape[1], heads // key.shape[1], dim)
    out = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attention_mask, scale=scaling)
    return out.reshape(slots, 1, heads, out.shape[-1]), None


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, softcap: float | None, sliding: int | None
) -> Tensor | None:
    """What `attend` gives, by a kernel of raybt's own; None where none takes these."""
    standing = STANDING[-1]
    if query.is_cuda and HAVE_TRITON:
        from raybt.engine.kernels.attend import attend_slots, fits

        if fits(query, key):
            return attend_slots(query, key, value, standing.positions, scaling, softcap, sliding)
    if softcap is None and not torch.compiler.is_compiling():
        made = fitting(query, key, value)
        if made:
            return attend_on_cpu(made, query, key, value, standing.first(sliding), standing.positions, scaling)
    return None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class Standing:
    """Where each slot's new token stands, and so which positions it sees.

    Args:
        positions: [slots].
    """

    def __init__(self, positions: Tensor):
        self.positions = positions
        self._first: dict[int | None, Tensor] = {}

    def first(self, sliding: int | None) -> Tensor:
        """[slots] the first position seen; sliding: how many a slot sees at most, None for all."""
        if sliding not in self._first:
            reach = self.positions if sliding is None else sliding - 1
            self._first[sliding] = (self.positions - reach).clamp(min=0)
        return self._first[sliding]


STANDING: list[Standing] = []  # for the kernels: transformers passes them no such thing


@contextmanager
def decoding(model: Any, positions: Tensor) -> Iterator[None]:
    """The model's attention is `attend` within this block, where it was sdpa; prefill keeps the stock one."""
    config = model.config
    stock = config._attn_implementation
    if stock != "sdpa":
        yield
        return
    config._attn_implementation = NAME
    STANDING.append(Standing(positions))
    try:
        yield
    finally:
        STANDING.pop()
        config._attn_implementation = stock


class Masks:
    """Each slot sees its own tokens, the new one included, and in sliding layers no more than the window of these.

    Reads the model's config once: each look at it costs as much as an operator.
    """

    def __init__(self, model: Any):
        config = model.config.get_text_config()
        self.width: int | None = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        self.kinds = kinds if len(kinds) > 1 else ()
        self.sliding = any("sliding" in kind for kind in kinds) if kinds else bool(self.width)
        self.additive = None if model.config._attn_implementation in ("sdpa", NAME) else model.dtype

    def __call__(self, positions: Tensor, window: int) -> Tensor | dict[str, Tensor]:
        """Masks of one new token a slot.

        Args:
            positions: [slots] where each slot's new token stands.
            window: attended length.

        Returns:
            [slots, 1, 1, window], bool for sdpa and additive for eager; by layer type where the model has several.
        """
        ahead = torch.arange(window, device=positions.device)
        seen = ahead <= positions[:, None]  # [slots, window]
        near = seen
        if self.width and (self.sliding or self.kinds):
            near = seen & (ahead > positions[:, None] - self.width)
        if self.kinds:
            return {kind: self._shaped(near if "sliding" in kind else seen) for kind in self.kinds}
        return self._shaped(near if self.sliding else seen)

    def _shaped(self, visible: Tensor) -> Tensor:
        visible = visible[:, None, None]
        if self.additive is None:
            return visible
        return torch.zeros_like(visible, dtype=self.additive).masked_fill(~visible, torch.finfo(self.additive).min)
