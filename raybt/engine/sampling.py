"""From logits to tokens: Gumbel-max on row-keyed noise (Gumbel 1954; Maddison et al. 2014)."""

import torch
from torch import Tensor

from raybt.engine.noise import gumbel, gumbel_at
from raybt.engine.request import Sampling

WIDTH = 128
"""Tokens looked at before a top-p set is known to fit among them; a row where it does not is done again in full."""


def choose(logits: Tensor, rule: Sampling, streams: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token a row, exactly from the rule's distribution.

    Args:
        logits: [rows, vocabulary].
        streams: [2, rows] the rows' random streams, as 32-bit words.
        steps: [rows] tokens written so far.

    Returns:
        tokens [rows] int64 and whether the row's logits were usable [rows] bool (false: NaN or infinite).
    """
    if rule.greedy:
        best, tokens = logits.max(dim=-1)
        return tokens, torch.isfinite(best)
    scaled = logits.float() / rule.temperature
    if rule.top_k == 0 and rule.top_p == 1.0:
        best, tokens = (scaled + gumbel(streams, steps, scaled.shape[-1])).max(dim=-1)
        return tokens, torch.isfinite(best)
    return _choose_among(scaled, rule, streams, steps)


def _choose_among(scaled: Tensor, rule: Sampling, streams: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    width = min(rule.top_k or WIDTH, scaled.shape[-1])
    kept, ids, missed = candidates(scaled, rule, width)
    if bool(missed.any()):
        kept, ids, _ = candidates(scaled, rule, scaled.shape[-1])
    best, column = (kept + gumbel_at(streams, steps, ids)).max(dim=-1)
    return ids.gather(-1, column[:, None])[:, 0], torch.isfinite(best)


def candidates(scaled: Tensor, rule: Sampling, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` likeliest tokens of each row, those outside top-k and top-p at -inf.

    The top-p set is the smallest whose mass reaches top_p (Holtzman et al. 2020), at least one token.

    Returns:
        logits [rows, width], token ids [rows, width], and [rows] bool: true where the top-p set may reach
        beyond these tokens.
    """
    kept, ids = scaled.topk(width, dim=-1)
    missed = torch.zeros_like(ids[:, 0], dtype=torch.bool)
    if rule.top_p == 1.0:
        return kept, ids, missed
    normaliser = (kept if rule.top_k else scaled).logsumexp(-1, keepdim=True)
    mass = (kept - normaliser).exp()
    if not rule.top_k and width < scaled.shape[-1]:
        missed = mass.sum(-1) < rule.top_p
    before = mass.cumsum(-1) - mass  # mass of the likelier tokens
    return kept.masked_fill(before >= rule.top_p, -torch.inf), ids, missed
