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

    So keys and values are read once for all heads of a group, not once a head. On a GPU a kernel also reads no more of
    them than each slot's own.

    Args:
        query: [slots, heads, 1, dim].
        key, value: [slots, kv heads, window, dim].
        attention_mask: [slots, 1, 1, window] bool, true where a slot may look.

    Returns:
        [slots, 1, heads, dim], and no weights.
    """
    if query.is_cuda and query.shape[2] == 1 and STANDING and HAVE_TRITON:
        from raybt.engine.kernels.attend import attend_slots, fits

        if fits(query, key):
            reads = {name: kwargs.get(name) for name in ("softcap", "sliding_window")}
            return attend_slots(query, key, value, STANDING[-1], scaling, **reads), None
    if query.shape[2] != 1 or key.shape[1] == query.shape[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    slots, heads, _, dim = query.shape
    folded = query.reshape(slots, key.shape[1], heads // key.shape[1], dim)
    out = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attention_mask, scale=scaling)
    return out.reshape(slots, 1, heads, out.shape[-1]), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


STANDING: list[Tensor] = []  # [slots] where each slot stands, for the kernel: transformers passes it no such thing


@contextmanager
def decoding(model: Any, positions: Tensor) -> Iterator[None]:
    """The model's attention is `attend` within this block, where it was sdpa; prefill keeps the stock one."""
    config = model.config
    stock = config._attn_implementation
    if stock != "sdpa":
        yield
        return
    config._attn_implementation = NAME
    STANDING.append(positions)
    try:
        yield
    finally:
        STANDING.pop()
        config._attn_implementation = stock


def slot_masks(model: Any, positions: Tensor, window: int) -> Tensor | dict[str, Tensor]:
    """Each slot sees its own tokens, the new one included, and in sliding layers no more than the window of these.

    Args:
        positions: [slots] where each slot's new token stands.
        window: attended length.

    Returns:
        [slots, 1, 1, window], bool for sdpa and additive for eager; by layer type where the model has several.
    """
    config = model.config.get_text_config()
    ahead = torch.arange(window, device=positions.device)
    seen = ahead <= positions[:, None]  # [slots, window]
    width = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    near = seen & (ahead > positions[:, None] - width) if width else seen
    if len(kinds) > 1:
        return {kind: _shaped(near if "sliding" in kind else seen, model) for kind in kinds}
    sliding = any("sliding" in kind for kind in kinds) if kinds else bool(width)
    return _shaped(near if sliding else seen, model)


def _shaped(visible: Tensor, model: Any) -> Tensor:
    visible = visible[:, None, None]
    if model.config._attn_implementation in ("sdpa", NAME):
        return visible
    dtype = model.dtype
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
