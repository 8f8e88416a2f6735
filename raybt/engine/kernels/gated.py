"""SiLU of an MLP's gate times its up projection (SwiGLU, Shazeer 2020), read from one merged product."""

# pyright: reportCallIssue=false, reportOperatorIssue=false
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from raybt.engine.kernels import INTERPRETED

BLOCK = 1024  # numbers a program; at four warps a thread then reads 16 bytes of bfloat16 at once


@triton.jit
def _silu_product(both, out, stride, width, BLOCK: tl.constexpr, FAST: tl.constexpr):
    row, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    own = lane < width
    gate = tl.load(both + row * stride + lane, mask=own, other=0.0)
    up = tl.load(both + row * stride + width + lane, mask=own, other=0.0).to(tl.float32)
    x = gate.to(tl.float32)
    # torch's own exponential and division on CUDA, for its own bits; the interpreter has no libdevice
    shrunk = tl.exp(-x) if FAST else libdevice.exp(-x)
    silu = tl.div_rn(x, 1.0 + shrunk).to(gate.dtype).to(tl.float32)
    tl.store(out + row * width + lane, (silu * up).to(gate.dtype), mask=own)


def silu_product(both: Tensor) -> Tensor:
    """silu(gate) * up, rounded after each of the two, as transformers' MLPs are.

    Args:
        both: [..., 2 * width], gate and up side by side.

    Returns:
        [..., width].
    """
    width = both.shape[-1] // 2
    rows = both.reshape(-1, 2 * width)
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    out = torch.empty(*both.shape[:-1], width, dtype=both.dtype, device=both.device)
    _silu_product[(len(rows), triton.cdiv(width, BLOCK))](
        rows, out, rows.stride(0), width, BLOCK=BLOCK, FAST=INTERPRETED, num_warps=4, enable_fp_fusion=False
    )
    return out
