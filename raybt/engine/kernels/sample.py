"""The exponential race of `raybt.engine.sampling`, noise and all, in one kernel: a row's logits to its token."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from raybt.engine.noise import WORDS, blocks
from raybt.engine.request import Sampling

BLOCK = 1024  # tokens looked at together; a multiple of the 8 words of a Philox block


@triton.jit
def _philox(counter, key):
    """Philox4x64-10 as in NumPy; counter and key are the low words, all others 0. Gives four uint64."""
    c0, c1, c2, c3 = counter, counter * 0, counter * 0, counter * 0
    k0, k1 = key, key * 0
    m0 = tl.full((), 0xD2E7470EE14C6C93, tl.uint64)
    m1 = tl.full((), 0xCA5A826395121157, tl.uint64)
    for _ in tl.static_range(10):
        h0, l0 = tl.umulhi(c0, m0 + c0 * 0), c0 * m0
        h1, l1 = tl.umulhi(c2, m1 + c2 * 0), c2 * m1
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += tl.full((), 0x9E3779B97F4A7C15, tl.uint64)
        k1 += tl.full((), 0xBB67AE8584CAA73B, tl.uint64)
    return c0, c1, c2, c3


@triton.jit
def _words(first, key, BLOCK: tl.constexpr):
    """BLOCK uniform 32-bit words, from the Philox block with counter `first` on; as uint64."""
    counters = (tl.arange(0, BLOCK // 8) + first).to(tl.uint64)
    a, b, c, d = _philox(counters, key + counters * 0)
    longs = tl.join(tl.join(a, c), tl.join(b, d)).reshape(BLOCK // 2)  # a, b, c, d of each block in turn
    mask = tl.full((), 0xFFFFFFFF, tl.uint64)
    shift = tl.full((), 32, tl.uint64)
    return tl.join(longs & mask, longs >> shift).reshape(BLOCK)


@triton.jit
def _exponential(words):
    """E = -log1p(-v), v = (word + 1/2) / 2**32 below 1. A small v is summed as a series, for 1 - v would lose it."""
    v = tl.minimum((words.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.99999994)
    series = v * (1 + v * (0.5 + v * (0.33333334 + v * (0.25 + v * (0.2 + v * (0.16666667 + v * 0.14285715))))))
    return tl.where(v < 0.0625, series, -tl.log(1 - v))


@triton.jit
def _race(logits, vocabulary, first, key, temperature, largest, floor, pivot, BLOCK: tl.constexpr):
    """Best score and its token among logits of at least `floor` and above `pivot`, and those tokens' unscaled mass."""
    best, token, mass = -1.0, tl.full((), 0, tl.int64), 0.0
    for start in range(0, vocabulary, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        value = tl.load(logits + ids, mask=ids < vocabulary, other=float("-inf")).to(tl.float32)
        scaled = value / temperature
        kept = (scaled >= floor) & (scaled > pivot)
        weight = tl.where(kept, tl.exp(scaled - largest), 0.0)
        mass += tl.sum(weight, axis=0)
        score = tl.where(kept, weight / _exponential(_words(first + start // 8, key, BLOCK)), -1.0)
        top, where = tl.max(score, axis=0, return_indices=True)
        better = top > best
        token = tl.where(better, (start + where).to(tl.int64), token)
        best = tl.where(better, top, best)
    return best, token, mass


@triton.jit
def _sample(
    logits_ptr,
    floors,
    streams,
    steps,
    tokens,
    usable,
    stride,
    vocabulary,
    per_step,
    temperature,
    top_p,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    logits = logits_ptr + row.to(tl.int64) * stride
    largest, bad = float("-inf"), 0
    for start in range(0, vocabulary, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        value = tl.load(logits + ids, mask=ids < vocabulary, other=float("-inf")).to(tl.float32)
        bad += tl.sum((value != value).to(tl.int32), axis=0)
        largest = tl.maximum(largest, tl.max(value, axis=0))
    good = (bad == 0) & (largest > float("-inf")) & (largest < float("inf"))
    largest = tl.where(good, largest, 0.0) / temperature
    floor = tl.load(floors + row) / temperature
    key = tl.load(streams + row).to(tl.uint64)
    first = tl.load(steps + row) * per_step + 1  # NumPy counts up before it draws
    _, token, total = _race(logits, vocabulary, first, key, temperature, largest, floor, float("-inf"), BLOCK)
    outside = good & (top_p < 1.0)
    while outside:  # a winner outside the top-p set is a miss: run again among what is likelier
        pivot = tl.load(logits + token).to(tl.float32) / temperature
        _, other, likelier = _race(logits, vocabulary, first, key, temperature, largest, floor, pivot, BLOCK)
        outside = likelier >= top_p * total
        token = tl.where(outside, other, token)
    tl.store(tokens + row, token)
    tl.store(usable + row, good)


def sample(logits: Tensor, rule: Sampling, streams: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token a row, as `sampling.choose` does with the noise of `noise.words`. Waits for nothing.

    Args:
        logits: [rows, vocabulary], rows contiguous.
        streams: [rows] int64, the 64 bits of each row's stream.
        steps: [rows] int64, tokens written so far.

    Returns:
        tokens [rows] int64, and whether the row's logits were usable [rows] bool.
    """
    rows, vocabulary = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    floors = torch.full((rows,), -torch.inf, device=logits.device)
    if 0 < rule.top_k < vocabulary:
        floors = logits.float().topk(rule.top_k, dim=-1).values[:, -1].contiguous()
    tokens = torch.empty(rows, dtype=torch.long, device=logits.device)
    usable = torch.empty(rows, dtype=torch.bool, device=logits.device)
    assert BLOCK % WORDS == 0
    _sample[(rows,)](
        logits, floors, streams, steps, tokens, usable, logits.stride(0), vocabulary, blocks(vocabulary),
        float(rule.temperature), float(rule.top_p), BLOCK=BLOCK,
    )  # fmt: skip
    return tokens, usable
