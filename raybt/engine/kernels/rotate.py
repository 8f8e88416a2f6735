"""The rotary embedding of a new token's query and key, and the write of key and value to the cache, in one kernel.

The plain way is some ten small kernels a layer, each of which reads and writes a few kilobytes a slot.
"""

# pyright: reportCallIssue=false
import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _turn(source, target, cos, sin, DIM: tl.constexpr, HALF: tl.constexpr):
    """x cos + turned(x) sin of one head; products are rounded to x's type before they are summed, as torch does."""
    lane = tl.arange(0, HALF)
    own = lane < DIM // 2
    high = lane + DIM // 2
    first, second = tl.load(source + lane, mask=own), tl.load(source + high, mask=own)
    kind = first.dtype
    x1, x2 = first.to(tl.float32), second.to(tl.float32)
    c1, c2 = tl.load(cos + lane, mask=own).to(tl.float32), tl.load(cos + high, mask=own).to(tl.float32)
    s1, s2 = tl.load(sin + lane, mask=own).to(tl.float32), tl.load(sin + high, mask=own).to(tl.float32)
    y1 = (x1 * c1).to(kind).to(tl.float32) + (-x2 * s1).to(kind).to(tl.float32)
    y2 = (x2 * c2).to(kind).to(tl.float32) + (x1 * s2).to(kind).to(tl.float32)
    tl.store(target + lane, y1.to(kind), mask=own)
    tl.store(target + high, y2.to(kind), mask=own)


@triton.jit
def _copy(source, target, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.arange(0, BLOCK)
    tl.store(target + lane, tl.load(source + lane, mask=lane < WIDTH), mask=lane < WIDTH)


@triton.jit
def _spot(store, place, length, head, by_slot, by_token, by_head):
    """Where a head of a token lies in the cache."""
    return store + (place // length) * by_slot + (place % length) * by_token + head * by_head


@triton.jit
def _rotate_and_write(
    query, key, value, cos, sin, out, all_keys, all_values, places, length, heads,
    q_slot, q_head, k_slot, k_head, v_slot, v_head, cos_slot, sin_slot,
    keys_slot, keys_token, keys_head, values_slot, values_token, values_head,
    DIM: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    slot, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    cos += slot * cos_slot
    sin += slot * sin_slot
    if head < heads:
        _turn(query + slot * q_slot + head * q_head, out + (slot * heads + head) * DIM, cos, sin, DIM, HALF)
    else:
        head -= heads
        place = tl.load(places + slot)
        spot = _spot(all_keys, place, length, head, keys_slot, keys_token, keys_head)
        _turn(key + slot * k_slot + head * k_head, spot, cos, sin, DIM, HALF)
        spot = _spot(all_values, place, length, head, values_slot, values_token, values_head)
        _copy(value + slot * v_slot + head * v_head, spot, DIM, 2 * HALF)


@triton.jit
def _write(
    key, value, all_keys, all_values, places, length, k_slot, k_head, v_slot, v_head,
    keys_slot, keys_token, keys_head, values_slot, values_token, values_head,
    DIM: tl.constexpr, WIDTH: tl.constexpr, DIMS: tl.constexpr, WIDTHS: tl.constexpr,
):  # fmt: skip
    slot, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.load(places + slot)
    spot = _spot(all_keys, place, length, head, keys_slot, keys_token, keys_head)
    _copy(key + slot * k_slot + head * k_head, spot, DIM, DIMS)
    spot = _spot(all_values, place, length, head, values_slot, values_token, values_head)
    _copy(value + slot * v_slot + head * v_head, spot, WIDTH, WIDTHS)


def rotate_and_write(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    all_keys: Tensor,
    all_values: Tensor,
    places: Tensor,
) -> Tensor:
    """Turn queries and keys as transformers' `apply_rotary_pos_emb` does; write keys and values to the cache.

    Args:
        query: [slots, heads, 1, dim], dim even.
        key, value: [slots, kv heads, 1, dim], any strides but the last, as query.
        cos, sin: [slots or 1, 1, dim], of the query's type.
        all_keys, all_values: [slots, length, kv heads, dim], any strides but the last; mutated.
        places: [slots] int64, slot * length + position.

    Returns:
        The turned queries [slots, heads, 1, dim], a new tensor.
    """
    slots, heads, _, dim = query.shape
    assert cos.shape[-1] == sin.shape[-1] == dim and cos.dtype == sin.dtype == query.dtype == key.dtype
    assert key.shape == value.shape and dim % 2 == 0
    cos, sin = (part.expand(slots, 1, dim).contiguous() if part.stride(-1) != 1 else part for part in (cos, sin))
    out = torch.empty(slots, heads, 1, dim, dtype=query.dtype, device=query.device)
    angles = (part.stride(0) if len(part) > 1 else 0 for part in (cos, sin))
    _rotate_and_write[(slots, heads + key.shape[1])](
        query, key, value, cos, sin, out, all_keys, all_values, places, all_keys.shape[1], heads,
        *query.stride()[:2], *key.stride()[:2], *value.stride()[:2], *angles,
        *all_keys.stride()[:3], *all_values.stride()[:3],
        DIM=dim, HALF=triton.next_power_of_2(dim // 2), num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def write(key: Tensor, value: Tensor, all_keys: Tensor, all_values: Tensor, places: Tensor) -> None:
    """Write one token a slot to the cache as it is, for models whose rotary embedding is another.

    Args:
        key, value: [slots, kv heads, 1, dim], any strides but the last; a value's dim may differ from a key's.
        all_keys, all_values: [slots, length, kv heads, dim], any strides but the last; mutated.
        places: [slots] int64, slot * length + position.
    """
    dim, width = key.shape[-1], value.shape[-1]
    _write[key.shape[:2]](
        key, value, all_keys, all_values, places, all_keys.shape[1],
        *key.stride()[:2], *value.stride()[:2], *all_keys.stride()[:3], *all_values.stride()[:3],
        DIM=dim, WIDTH=width, DIMS=triton.next_power_of_2(dim), WIDTHS=triton.next_power_of_2(width), num_warps=1,
    )  # fmt: skip
