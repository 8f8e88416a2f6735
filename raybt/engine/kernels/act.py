"""An intervention at one point of the network in one kernel: its gate, its formula and its count of what it changed.

The plain way (`raybt.engine.hooks`) is some ten small kernels a point, and a copy of all coefficients a step to gate
them. Here the kernel reads a slot's coefficients, its gate and its draw where they lie.
"""

# pyright: reportCallIssue=false
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _act(
    x_ptr, gain, push, pull, vector, spread, draws, gate, bank, touched, y_ptr,
    x_place, g_head, g_place, a_head, a_place, b_head, b_place, v_head, v_place, s_head, s_place, t_head, t_place,
    widest, PART: tl.constexpr, BLOCK: tl.constexpr, DIRECTED: tl.constexpr,
):  # fmt: skip
    place, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dims = tl.arange(0, BLOCK)
    inside = dims < PART
    x = tl.load(x_ptr + place * x_place + head * PART + dims, mask=inside, other=0.0)
    g = tl.load(gain + head * g_head + place * g_place)
    y = x.to(tl.float32) * g
    changes = g != 1.0
    if DIRECTED:
        a = tl.load(push + head * a_head + place * a_place)
        b = tl.load(pull + head * b_head + place * b_place)
        row = tl.load(vector + head * v_head + place * v_place)
        if draws is not None:
            count = tl.load(spread + head * s_head + place * s_place)
            drawn = tl.load(draws + place) % count
            row += tl.where(drawn < 0, drawn + count, drawn)  # torch's remainder is never negative, C's is
        v = tl.load(bank + row * widest + dims, mask=inside, other=0.0)
        along = tl.sum(x.to(tl.float32) * v, axis=0)
        y = y + (a + b * along) * v
        changes = changes | (a != 0.0) | (b != 0.0)
    if gate is not None:
        changes = changes & (tl.load(gate + place) != 0)
    # what is not to change stays as it is: the formula would make 0 of -0, and NaN of what overflowed
    spot = y_ptr + (place * tl.num_programs(1) + head) * PART + dims
    tl.store(spot, tl.where(changes, y.to(x.dtype), x), mask=inside)
    counter = touched + head * t_head + place * t_place
    tl.store(counter, tl.load(counter) + changes.to(tl.int32))


def act(
    x: Tensor,
    gain: Tensor,
    push: Tensor,
    pull: Tensor,
    vector: Tensor,
    spread: Tensor,
    draws: Tensor | None,
    gate: Tensor | None,
    bank: Tensor,
    touched: Tensor,
    heads: int,
    directed: bool,
) -> Tensor:
    """y = gain x + (push + pull (x.v)) v in fp32 where the gate is on, x elsewhere. Mutates `touched`.

    Args:
        x: [places, width] or [places, 1, width], width = heads * part.
        gain, push, pull: [heads, places] fp32, any strides, as all of this shape.
        vector, spread: [heads, places] int64, v's row in the bank, and how many rows from there on are drawn from.
        draws: [places] random int64; None takes the row itself.
        gate: [places] bool; None is on everywhere.
        bank: [vectors, widest] fp32, contiguous, widest at least part where directed.
        touched: [heads, places] int32, one more wherever the coefficients change an output.
        directed: whether any push or pull is not 0.

    Returns:
        As x, a new tensor.
    """
    rows = x.reshape(-1, x.shape[-1])
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    places, part = len(rows), rows.shape[1] // heads
    assert gain.shape == touched.shape == (heads, places) and (not directed or bank.shape[1] >= part)
    y = x.new_empty(x.shape)
    tables = gain, push, pull, vector, spread, touched
    strides = [stride for table in tables for stride in table.stride()]
    block = triton.next_power_of_2(part)
    _act[(places, heads)](
        rows, gain, push, pull, vector, spread, draws, gate, bank, touched, y, rows.stride(0), *strides,
        bank.stride(0) if directed else 0,  # else another bank would be another kernel, compiled in a capture
        PART=part, BLOCK=block, DIRECTED=directed,
        num_warps=max(1, min(16, block // 256)), enable_fp_fusion=False,  # rounded after each operation, as torch does
    )  # fmt: skip
    return y
