"""Attention of one new token a slot that reads each slot's own length, and keys once for all heads that share them.

A row's positions are cut at every SPAN, a program takes one span, and a second kernel joins them (split-K decoding:
Dao et al. 2023, "Flash-Decoding for long-context inference"), so that the longest row does not set the end. Where the
cuts lie depends on nothing but SPAN: a row's bits are the same in any window and beside any neighbours.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # query heads of a group, padded: the least that a matrix unit takes
SPAN = 256  # positions of one program


@triton.jit
def _attend(
    query, keys, values, positions, first, out, weight, scale, softcap,
    q_slot, q_head, k_slot, k_head, k_token, v_slot, v_head, v_token,
    group, spans, HEADS: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    SPAN: tl.constexpr, FROM: tl.constexpr, JOINED: tl.constexpr,
):  # fmt: skip
    slot, kv_head, span = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    end = tl.minimum(tl.load(positions + slot) + 1, (span + 1) * SPAN)
    begin = tl.maximum(tl.load(first + slot), span * SPAN) if FROM else span * SPAN
    if begin >= end:
        return
    rows, dims = tl.arange(0, ROWS), tl.arange(0, DIM)
    own = rows < group
    heads = kv_head * group + rows
    q = tl.load(query + slot * q_slot + heads[:, None] * q_head + dims[None], mask=own[:, None], other=0.0)
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    summed = tl.zeros((ROWS, DIM), tl.float32)
    for start in range((begin // BLOCK) * BLOCK, end, BLOCK):
        tokens = start + tl.arange(0, BLOCK)
        seen = (tokens >= begin) & (tokens < end)
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
    if JOINED:
        row = (slot * HEADS + heads) * spans + span
        tl.store(out + row[:, None] * DIM + dims[None], result, mask=own[:, None])
        tl.store(weight + row, highest + tl.log(total), mask=own)
    else:
        spot = out + (slot * HEADS + heads[:, None]) * DIM + dims[None]
        tl.store(spot, result.to(out.dtype.element_ty), mask=own[:, None])


@triton.jit
def _join(
    parts, weight, positions, first, out, spans,
    HEADS: tl.constexpr, DIM: tl.constexpr, SPAN: tl.constexpr, FROM: tl.constexpr,
):  # fmt: skip
    slot, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dims = tl.arange(0, DIM)
    row = slot * HEADS + head
    begin = tl.load(first + slot) // SPAN if FROM else 0
    highest = tl.load(weight + row * spans + begin)
    total = highest * 0 + 1
    summed = tl.load(parts + (row * spans + begin) * DIM + dims)
    for span in range(begin + 1, tl.load(positions + slot) // SPAN + 1):
        log = tl.load(weight + row * spans + span)
        now = tl.maximum(highest, log)
        shrink, grow = tl.exp(highest - now), tl.exp(log - now)
        total = total * shrink + grow
        summed = summed * shrink + grow * tl.load(parts + (row * spans + span) * DIM + dims)
        highest = now
    tl.store(out + row * DIM + dims, (summed / total).to(out.dtype.element_ty))


def attend_slots(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    first: Tensor | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Softmax attention over each slot's positions from the first that it sees to its own.

    Args:
        query: [slots, heads, 1, dim], and all else such that `fits`.
        keys, values: [slots, kv heads, length, dim].
        positions, first: [slots] int64, where each slot's new token stands, and the first position that it sees
            (None: the row's first), at least one of them.

    Returns:
        [slots, 1, heads, dim].
    """
    slots, heads, _, dim = query.shape
    group, spans = heads // keys.shape[1], triton.cdiv(keys.shape[2], SPAN)
    out = torch.empty(slots, 1, heads, dim, dtype=query.dtype, device=query.device)
    parts, weight = out, out  # not read where one span is all
    if spans > 1:
        parts = torch.empty(slots, heads, spans, dim, dtype=torch.float32, device=query.device)
        weight = torch.empty(slots, heads, spans, dtype=torch.float32, device=query.device)
    block, stages = tile(dim, query.element_size(), shared_limit(query.device))
    start = positions if first is None else first
    scale = float(dim**-0.5 if scaling is None else scaling)
    strides = (*query.stride()[:2], *keys.stride()[:3], *values.stride()[:3])
    _attend[(slots, keys.shape[1], spans)](
        query, keys, values, positions, start, parts, weight, scale, float(softcap or 0.0), *strides, group, spans,
        HEADS=heads, DIM=dim, ROWS=ROWS, BLOCK=block, SPAN=SPAN, FROM=first is not None, JOINED=spans > 1,
        num_stages=stages,
    )  # fmt: skip
    if spans > 1:
        _join[(slots, heads)](
            parts, weight, positions, start, out, spans,
            HEADS=heads, DIM=dim, SPAN=SPAN, FROM=first is not None, num_warps=1,
        )  # fmt: skip
    return out


def fits(query: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether the kernel takes these shapes: heads of one width, a power of two of at least 16, at most 16 to a kv
    head, each head's numbers side by side, and on this card shared memory for at least the smallest tile."""
    dim, size = query.shape[-1], query.element_size()
    beside = query.stride(3) == keys.stride(3) == values.stride(3) == 1
    plain = keys.shape == values.shape and query.dtype == keys.dtype == values.dtype and beside
    powers = dim >= 16 and dim & (dim - 1) == 0 and query.shape[1] // keys.shape[1] <= ROWS
    return plain and powers and tile(dim, size, shared_limit(query.device)) is not None


@cache
def tile(dim: int, size: int, limit: int) -> tuple[int, int] | None:
    """(positions read together, stages of loads in flight): the most that leaves room for a second program beside, or
    else that fits at all; None where nothing does.

    Args:
        size: bytes of a number.
        limit: bytes of shared memory that one program may have.
    """
    for most in (limit // 2, limit):
        for block, stages in ((64, 3), (64, 2), (32, 2), (16, 2)):
            if shared_bytes(dim, size, block, stages) <= most:
                return block, stages
    return None


def shared_bytes(dim: int, size: int, block: int, stages: int) -> int:
    """Shared memory of one program at most: keys and values of loads in flight, queries, their weights, and a line for
    the sums; as measured of Triton 3.6 and 3.9, which take the same on every card."""
    return size * (2 * (stages - 1) * dim * block + ROWS * (dim + block)) + 64


@cache
def shared_limit(device: torch.device) -> int:
    """Bytes of shared memory that one program may have on a device; where the interpreter runs, more than enough."""
    if device.type != "cuda":
        return 1 << 30
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin
