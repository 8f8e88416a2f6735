"""The noise of `raybt.engine.noise` made on the GPU: NumPy's Philox4x64-10 and the exponential of its words."""

import triton
import triton.language as tl


@triton.jit
def philox(counter, key):
    """Philox4x64-10 as in NumPy; counter and key are the low words, all others 0. Gives four uint64."""
    c0, c1, c2, c3 = counter, counter * 0, counter * 0, counter * 0
    k0, k1 = key, key * 0
    m0 = tl.full((), 0xD2E7470EE14C6C93, tl.uint64)
    m1 = tl.full((), 0xCA5A826395121157, tl.uint64)
    for _ in tl.static_range(10):  # pyright: ignore[reportGeneralTypeIssues]
        h0, l0 = tl.umulhi(c0, m0 + c0 * 0), c0 * m0
        h1, l1 = tl.umulhi(c2, m1 + c2 * 0), c2 * m1
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += tl.full((), 0x9E3779B97F4A7C15, tl.uint64)
        k1 += tl.full((), 0xBB67AE8584CAA73B, tl.uint64)
    return c0, c1, c2, c3


@triton.jit
def any_below(a, b, c, d, limit):
    """Whether one of a Philox block's eight 32-bit words is below the block's limit, a uint32."""
    low = (a.to(tl.uint32) < limit) | (b.to(tl.uint32) < limit) | (c.to(tl.uint32) < limit) | (d.to(tl.uint32) < limit)
    bar = limit.to(tl.uint64) << tl.full((), 32, tl.uint64)  # a high half is below the limit if the whole is below this
    return low | (a < bar) | (b < bar) | (c < bar) | (d < bar)


@triton.jit
def words_of(a, b, c, d):
    """The words of some Philox blocks as NumPy gives them, lower halves first: [blocks] four times to [blocks, 8]."""
    longs = tl.join(tl.join(a, c), tl.join(b, d)).reshape(a.shape[0], 4)  # a, b, c, d
    high = longs >> tl.full((), 32, tl.uint64)
    return tl.join(longs.to(tl.uint32), high.to(tl.uint32)).reshape(a.shape[0], 8)


@triton.jit
def exponential(words):
    """E = -log1p(-v), v = (word + 1/2) / 2**32 below 1. A small v is summed as a series, for 1 - v would lose it."""
    v = tl.minimum((words.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.99999994)
    series = v * (1 + v * (0.5 + v * (0.33333334 + v * (0.25 + v * (0.2 + v * (0.16666667 + v * 0.14285715))))))
    return tl.where(v < 0.0625, series, -tl.log(1 - v))
