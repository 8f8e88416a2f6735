"""Attention of one new token a slot over that slot's keys and values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from raybt.engine.kernels import by_triton
from raybt.engine.kernels.cpu_attend import attend_slots as attend_on_cpu
from raybt.engine.kernels.cpu_attend import fitting
from raybt.engine.masks import Sight, Unmasked
from raybt.engine.rotary import ROTARY

NAME = "raybt"  # what the decode step sets in the place of "sdpa"
BLIND = ("s_aux", "position_bias")  # what a layer may ask of its attention that the kernels do not do


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
    query, sight = ROTARY.query(query), SEEN[-1] if SEEN else None
    if isinstance(sight, Sight):
        sight.asked += 1
    if query.shape[2] == 1 and sight and not any(kwargs.get(name) is not None for name in BLIND):
        out = _by_kernel(query, key, value, attention_mask, scaling, kwargs.get("softcap"))
        if out is not None:
            return out, None
    if isinstance(sight, Unmasked):
        raise RuntimeError("a layer whose attention no kernel takes came after all layers had been served by one")
    if query.shape[2] != 1 or key.shape[1] == query.shape[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    slots, heads, _, dim = query.shape
    folded = query.reshape(slots, key.shape[1], heads // key.shape[1], dim)
    out = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attention_mask, scale=scaling)
    return out.reshape(slots, 1, heads, out.shape[-1]), None


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None
) -> Tensor | None:
    """What `attend` gives, by a kernel of raybt's own; None where none takes these."""
    sight = SEEN[-1]
    if query.device == sight.positions.device and by_triton(query.device):  # else of a model on several devices
        from raybt.engine.kernels.attend import attend_slots, fits

        if fits(query, key, value):
            sight.served += 1
            return attend_slots(query, key, value, sight.positions, sight.first(mask), scaling, softcap)
    if softcap is None and not torch.compiler.is_compiling() and isinstance(sight, Sight):
        made = fitting(query, key, value)
        if made:
            return attend_on_cpu(made, query, key, value, sight.first(mask), sight.positions, scaling)
    return None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


SEEN: list[Sight | Unmasked] = []  # for the kernels: transformers passes them no such thing


@contextmanager
def decoding(model: Any, sight: Sight | Unmasked) -> Iterator[None]:
    """The model's attention is `attend` within this block, where it was sdpa; prefill keeps the stock one."""
    config = model.config
    stock = config._attn_implementation
    if stock != "sdpa":
        yield
        return
    config._attn_implementation = NAME
    SEEN.append(sight)
    try:
        yield
    finally:
        SEEN.pop()
        config._attn_implementation = stock
