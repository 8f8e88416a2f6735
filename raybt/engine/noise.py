"""Randomness that belongs to the row: noise as a function of (stream, step, token id) alone."""

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, ...], rounds: int = 10) -> tuple[Tensor, ...]:
    """Philox4x32-10 of Salmon et al. 2011 (SC'11, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: four int64 tensors that broadcast together, each value in [0, 2**32).
        key: two such tensors: the 64 bits of the stream.

    Returns:
        Four int64 tensors of independent uniform 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # wrap in int64: the low 64 bits are right
        c0, c1, c2, c3 = (p1 >> 32 & MASK) ^ c1 ^ k0, p1 & MASK, (p0 >> 32 & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = k0 + WEYL[0] & MASK, k1 + WEYL[1] & MASK
    return c0, c1, c2, c3


def split64(streams: list[int]) -> Tensor:
    """64-bit streams as [2, n] int64 words of 32 bits, low word first."""
    return torch.tensor([[s & MASK for s in streams], [s >> 32 & MASK for s in streams]], dtype=torch.int64)


def gumbel(streams: Tensor, steps: Tensor, vocabulary: int) -> Tensor:
    """Standard Gumbel noise for every token id.

    Four neighbouring ids share one Philox block, whose counter is (id // 4, step, 0, 0) and key the stream.

    Args:
        streams: [2, rows] from `split64`.
        steps: [rows] int64, how many tokens the row has written.

    Returns:
        [rows, vocabulary] float32.
    """
    blocks = torch.arange(-(-vocabulary // 4), device=steps.device)
    words = _blocks(streams, steps, blocks[None])  # [rows, blocks, 4]
    return to_gumbel(words.flatten(1)[:, :vocabulary])


def gumbel_at(streams: Tensor, steps: Tensor, ids: Tensor) -> Tensor:
    """The same noise for chosen token ids only. ids: [rows, k]; gives [rows, k] float32."""
    words = _blocks(streams, steps, ids >> 2)  # [rows, k, 4]
    return to_gumbel(words.gather(-1, (ids & 3)[..., None])[..., 0])


def _blocks(streams: Tensor, steps: Tensor, blocks: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=torch.int64, device=steps.device)
    key = (streams[0][:, None], streams[1][:, None])
    return torch.stack(philox((blocks, steps[:, None], zero, zero), key), dim=-1)


def to_gumbel(words: Tensor) -> Tensor:
    """Uniform 32-bit words to standard Gumbel float32.

    -log(-log1p(-v)) keeps full resolution where the noise is large (v near 0); a word so large that v
    rounds to 1 gives -inf, which never wins. The other way round a token would win at random.
    """
    v = (words.float() + 0.5) * 2.0**-32
    return -torch.log(-torch.log1p(-v))
