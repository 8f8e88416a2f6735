"""RMSNorm (Zhang and Sennrich 2019) with the sum that goes before it in one kernel, where torch takes seven."""

# pyright: reportCallIssue=false
import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _add_norm(
    x_ptr, residual, weight, normed, total, eps, x_row, r_row,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    own = lane < WIDTH
    x = tl.load(x_ptr + row * x_row + lane, mask=own, other=0.0)
    scale = tl.load(weight + lane, mask=own, other=0.0).to(tl.float32)
    kind = x.dtype
    wide = x.to(tl.float32)
    if residual is not None:
        summed = (wide + tl.load(residual + row * r_row + lane, mask=own, other=0.0).to(tl.float32)).to(kind)
        tl.store(total + row * WIDTH + lane, summed, mask=own)
        wide = summed.to(tl.float32)  # the norm is of what is passed on, rounded
    ratio = tl.rsqrt(tl.sum(wide * wide, axis=0) / WIDTH + eps)
    tl.store(normed + row * WIDTH + lane, (scale * (wide * ratio).to(kind).to(tl.float32)).to(kind), mask=own)


def add_norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The RMSNorm of a sum, and the sum, rounded as torch and transformers' `Qwen2RMSNorm` round.

    Args:
        x: [..., width].
        residual: [..., width] of x's type, or None for a norm alone.
        weight: [width] of x's type.

    Returns:
        normed and total, both [..., width]; total is x itself where there is no residual.
    """
    width = x.shape[-1]
    assert weight.dtype == x.dtype and (residual is None or (residual.dtype, residual.shape) == (x.dtype, x.shape))
    rows, others = _rows(x), None if residual is None else _rows(residual)
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = x if residual is None else torch.empty_like(normed)
    block = triton.next_power_of_2(width)
    _add_norm[(len(rows),)](
        rows, others, weight, normed, total, eps, rows.stride(0), 0 if others is None else others.stride(0),
        WIDTH=width, BLOCK=block, num_warps=max(1, min(16, block // 256)), enable_fp_fusion=False,
    )  # fmt: skip
    return normed, total


def _rows(x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()
