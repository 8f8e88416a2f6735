"""Attention of one new token a slot that reads each slot's own length, and keys once for all heads that share them."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # query heads of a group, padded: the least that a matrix unit takes
BLOCK = 64  # positions read together


@triton.jit
def _attend(
    query, keys, values, positions, first, out, scale, softcap,
    q_slot, q_head, k_slot, k_head, k_token, v_slot, v_head, v_token,
    group, HEADS: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    slot, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, dims = tl.arange(0, ROWS), tl.arange(0, DIM)
    own = rows < group
    heads = kv_head * group + rows
    q = tl.load(query + slot * q_slot + heads[:, None] * q_head + dims[None], mask=own[:, None], other=0.0)
    length = tl.load(positions + slot) + 1
    begin = tl.load(first + slot)
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    summed = tl.zeros((ROWS, DIM), tl.float32)
    for start in range((begin // BLOCK) * BLOCK, length, BLOCK):
        tokens = start + tl.arange(0, BLOCK)
        seen = (tokens >= begin) & (tokens < length)
        k = tl.load(keys + slot * k_slot + kv_head * k_head + tokens[:, None] * k_token + dims[None],
                    mask=seen[:, None], other=0.0)  # fmt: skip
        v = tl.load(values + slot * v_slot + kv_head * v_head + tokens[:, None] * v_token + dims[None],
                    mask=seen[:, None], other=0.0)  # fmt: skip
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        if softcap > 0:
            scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # tanh
        scores = tl.where(seen[None], scores, float("-inf"))
        now = tl.maximum(highest, tl.max(scores, axis=1))
        shrink = tl.exp(highest - now)
        weights = tl.exp(scores - now[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        summed = summed * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        highest = now
    result = summed / total[:, None]
    spot = out + (slot * HEADS + heads[:, None]) * DIM + dims[None]
    tl.store(spot, result.to(out.dtype.element_ty), mask=own[:, None])


def attend_slots(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    first: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Softmax attention over each slot's positions from the first that it sees to its own.

    Args:
        query: [slots, heads, 1, dim], dim a power of two of at least 16.
        keys, values: [slots, kv heads, length, dim], any strides but the last, at most 16 heads to a kv head.
        positions, first: [slots] int64, where each slot's new token stands, and the first position that it sees.

    Returns:
        [slots, 1, heads, dim].
    """
    slots, heads, _, dim = query.shape
    group = heads // keys.shape[1]
    out = torch.empty(slots, 1, heads, dim, dtype=query.dtype, device=query.device)
    scale = float(dim**-0.5 if scaling is None else scaling)
    strides = (*query.stride()[:2], *keys.stride()[:3], *values.stride()[:3])
    _attend[(slots, keys.shape[1])](
        query, keys, values, positions, first, out, scale, float(softcap or 0.0),
        *strides, group, HEADS=heads, DIM=dim, ROWS=ROWS, BLOCK=BLOCK,
    )  # fmt: skip
    return out


def fits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernel takes these shapes."""
    dim = query.shape[-1]
    plain = key.shape == value.shape and key.stride(3) == value.stride(3) == 1
    return plain and dim >= 16 and dim & (dim - 1) == 0 and query.shape[1] // key.shape[1] <= ROWS
