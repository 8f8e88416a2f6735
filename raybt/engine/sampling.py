"""From logits to tokens: an exponential race on row-keyed noise, the same draw as Gumbel-max and one log cheaper.

argmax of p_i / E_i over standard exponentials E_i draws i with probability p_i (Gumbel 1954; Maddison et al. 2014).
Over a subset of tokens the same race with the same noise draws from the renormalised subset. So top-p needs no sort:
run the race over all tokens; a winner outside the top-p set is a miss, and is run again without itself and all tokens
not likelier, none of which can be in the set either.
"""

import torch
from torch import Tensor

from raybt.engine.request import Sampling


def choose(logits: Tensor, rule: Sampling, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw one token a row, exactly from the rule's distribution.

    The top-p set is the smallest whose mass reaches top_p (Holtzman et al. 2020), at least one token; tokens as likely
    as its least likely one belong to it, and to the top k alike.

    Args:
        logits: [rows, vocabulary].
        noise: [rows, vocabulary] standard exponential; not read under greedy decoding.

    Returns:
        tokens [rows] int64 and whether the row's logits were usable [rows] bool (false: NaN or infinite).
    """
    if rule.greedy:
        best, tokens = logits.max(dim=-1)
        return tokens, torch.isfinite(best)
    assert noise is not None
    mass = distribution(logits, rule)
    if rule.top_p == 1.0:
        best, tokens = mass.div_(noise).max(dim=-1)  # in place: a new tensor of this size costs more than the division
        return tokens, torch.isfinite(best)
    best, tokens = (mass / noise).max(dim=-1)
    redo_misses(mass, noise, tokens, rule.top_p)
    return tokens, torch.isfinite(best)


def distribution(logits: Tensor, rule: Sampling) -> Tensor:
    """Probabilities after temperature and top-k, [rows, vocabulary] float32."""
    scaled = logits.float()
    if rule.temperature != 1.0:
        scaled = scaled / rule.temperature
    if 0 < rule.top_k < scaled.shape[-1]:
        least = scaled.topk(rule.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return torch.softmax(scaled, dim=-1)


def redo_misses(mass: Tensor, noise: Tensor, tokens: Tensor, top_p: float) -> None:
    """Run the race again, in place, wherever the winner is outside the top-p set, until none is."""
    rows = torch.arange(len(tokens), device=tokens.device)
    while True:
        pivot = mass[rows].gather(-1, tokens[rows, None])  # [missed, 1]
        likelier = mass[rows] * (mass[rows] > pivot)
        missed = likelier.sum(-1) >= top_p
        if not missed.any():
            return
        rows = rows[missed]
        tokens[rows] = (likelier[missed] / noise[rows]).argmax(dim=-1)
