"""The decode step's attention on a CPU.

torch's own reads every slot to the longest one's length and makes a small product of its own for each slot and head: on
small models it took half the step.
"""

from functools import cache

import torch
from torch import Tensor

from raybt.engine.kernels.build import Kernel, built, shared

LANES = 16  # heads are multiples of this wide
WIDEST, MOST = 256, 16


@cache
def kernel(dim: int, group: int) -> Kernel | None:
    """The kernel for heads `dim` wide, `group` of them to a key head; None where it can't be had."""
    fits = dim % LANES == 0 and dim <= WIDEST and group <= MOST
    return built("attend", "p" * 6 + "i" * 12 + "f", DIM=dim, GROUP=group) if fits else None


def fitting(query: Tensor, key: Tensor, value: Tensor) -> Kernel | None:
    """The kernel that takes these, if there is one. Shapes as in `attend_slots`."""
    if query.dtype != torch.float32 or query.device.type != "cpu" or key.shape != value.shape:
        return None
    if query.shape[3] != key.shape[3] or not query.stride(3) == key.stride(3) == value.stride(3) == 1:
        return None
    return kernel(query.shape[3], query.shape[1] // key.shape[1])


def attend_slots(
    made: Kernel, query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, scaling: float | None = None
) -> Tensor:
    """Softmax attention over each slot's positions from `first` to `last`. A row's bits depend on nothing but the row.

    Args:
        query: [slots, heads, 1, dim].
        key, value: [slots, kv heads, window, dim].
        first, last: [slots] int64, both included; beyond the window nothing is read.

    Returns:
        [slots, 1, heads, dim].
    """
    slots, heads, _, dim = query.shape
    out = torch.empty(slots, 1, heads, dim)
    pointers = [x.data_ptr() for x in (query, key, value, out, first, last)]
    (k_slot, k_head, k_token, _), (v_slot, v_head, v_token, _) = key.stride(), value.stride()
    strides = (*query.stride()[:2], k_slot, k_token, k_head, v_slot, v_token, v_head)
    sizes = key.shape[1:3]
    scale = dim**-0.5 if scaling is None else scaling
    shared(lambda begin, end: made.run(*pointers, begin, end, *sizes, *strides, scale), slots)
    return out
