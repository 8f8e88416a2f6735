"""The exponential race of `raybt.engine.sampling`, noise and all, on a CPU: a row's logits to its token.

Noise that lives in registers costs a third of noise that is written to memory and read back.
"""

from functools import cache

import torch
from torch import Tensor

from raybt.engine.kernels.build import Kernel, built, shared
from raybt.engine.request import Sampling


@cache
def kernel() -> Kernel | None:
    """The kernel, or None where it can't be had."""
    return built("sample", "p" * 6 + "i" * 4 + "ff")


def sample(logits: Tensor, rule: Sampling, streams: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token a row, as `sampling.choose` does with the noise of `noise.words`. Assumes there is a kernel.

    Args:
        logits: [rows, vocabulary].
        streams: [rows] int64, the 64 bits of each row's stream.
        steps: [rows] int64, tokens written so far.

    Returns:
        tokens [rows] int64, and whether the row's logits were usable [rows] bool.
    """
    made = kernel()
    assert made is not None
    rows, vocabulary = logits.shape
    logits = logits.float()
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    floors = torch.full((rows,), -torch.inf)
    if 0 < rule.top_k < vocabulary:
        floors = logits.topk(rule.top_k, dim=-1).values[:, -1].contiguous()
    tokens, usable = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.bool)
    pointers = [x.data_ptr() for x in (logits, floors, streams, steps, tokens, usable)]
    numbers = (vocabulary, logits.stride(0), rule.temperature, rule.top_p)
    shared(lambda begin, end: made.run(*pointers, begin, end, *numbers), rows)
    return tokens, usable
