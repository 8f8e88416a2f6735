"""Randomness that belongs to the row: noise as a function of (stream, step, token id) alone.

The generator is NumPy's Philox4x64-10 (Salmon et al. 2011, SC'11, "Parallel random numbers: as easy as 1, 2, 3"). Its
key is the stream; step s owns the blocks from s B, with B = ceil(vocabulary / 8), and token i the i-th 32-bit word of
these. A row reads its words in order, so one generator a slot suffices and no counter is ever set.
"""

import numpy as np
import torch
from torch import Tensor

WORDS = 8  # 32-bit words in a Philox block
LARGEST = 1 - 2.0**-24  # the float32 below 1
AHEAD = 8192
"""Words drawn for a slot at once, where they hold more than one step: a call costs more than a small step's words."""


def blocks(vocabulary: int) -> int:
    """Philox blocks that a step owns."""
    return -(-vocabulary // WORDS)


def words(stream: int, step: int, vocabulary: int, steps: int = 1) -> np.ndarray:
    """Uniform 32-bit words of consecutive steps, [steps, vocabulary] uint32."""
    each = blocks(vocabulary)
    return _read(np.random.Philox(key=stream, counter=step * each), each, steps)[:, :vocabulary]


def integers(stream: int, count: int) -> np.ndarray:
    """[count] int64 in [0, 2**31): draws other than of tokens, from the stream's far end, which no step reaches."""
    return (np.random.Philox(key=stream, counter=1 << 128).random_raw(count) >> np.uint64(33)).astype(np.int64)


def exponential(drawn: np.ndarray, out: np.ndarray | None = None) -> Tensor:
    """32-bit words to standard exponential float32, E = -log1p(-v) with v = (word + 1/2) / 2**32.

    log1p keeps full resolution where E is small, which is where a token wins. v stays below 1, so that E is finite and
    the only token of a set always wins.
    """
    numbers = np.empty(drawn.shape, np.float32) if out is None else out
    np.copyto(numbers, drawn, casting="same_kind")
    minus_v = torch.from_numpy(numbers).add_(0.5).mul_(-(2.0**-32)).clamp_(min=-LARGEST)
    return minus_v.log1p_().neg_()


def _read(generator: np.random.Philox, each: int, steps: int) -> np.ndarray:
    return generator.random_raw(4 * each * steps).astype("<u8", copy=False).view("<u4").reshape(steps, each * WORDS)


class Race:
    """Each slot's exponential noise, step after step.

    Args:
        slots, vocabulary: shape of a step's noise.
    """

    def __init__(self, slots: int, vocabulary: int):
        self.vocabulary, self.each = vocabulary, blocks(vocabulary)
        self.ahead = max(1, AHEAD // vocabulary)
        self.generators: list[np.random.Philox | None] = [None] * slots
        self.drawn = np.ones((slots, self.ahead, vocabulary), np.float32)
        self.flat = torch.from_numpy(self.drawn).view(-1, vocabulary)  # the same memory
        self.first = np.arange(slots) * self.ahead
        self.next = np.full(slots, self.ahead)  # column of each slot's next noise
        self.now = torch.ones(slots, vocabulary)

    def start(self, slot: int, stream: int) -> None:
        """Give a slot its row's stream, from step 0."""
        self.generators[slot] = np.random.Philox(key=stream, counter=0)
        self.next[slot] = self.ahead

    def take(self) -> Tensor:
        """[slots, vocabulary] noise of every slot's next step, good until the next call; the caller may write into it.

        Slots never started have ones, those given up whatever is left.
        """
        for slot in np.flatnonzero(self.next == self.ahead).tolist():
            self._draw(slot)
        torch.index_select(self.flat, 0, torch.from_numpy(self.first + self.next), out=self.now)
        self.next += 1
        return self.now

    def _draw(self, slot: int) -> None:
        generator, self.next[slot] = self.generators[slot], 0
        if generator is None:
            self.drawn[slot] = 1
        else:
            exponential(_read(generator, self.each, self.ahead)[:, : self.vocabulary], out=self.drawn[slot])

    def free(self, slot: int) -> None:
        """Draw no more for a slot whose row has ended."""
        self.generators[slot] = None
