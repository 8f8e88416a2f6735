"""From logits to tokens: an exponential race on row-keyed noise, the same draw as Gumbel-max and one log cheaper.

argmax of p_i / E_i over standard exponentials E_i draws i with probability p_i (Gumbel 1954; Maddison et al. 2014).
Over a subset of tokens the same race with the same noise draws from the renormalised subset. So top-p needs no sort:
run the race over all tokens; a winner outside the top-p set is a miss, and is run again without itself and all tokens
not likelier, none of which can be in the set either.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from raybt.engine.kernels import by_triton, cpu_sample
from raybt.engine.request import Sampling

Draw = Callable[[Tensor, Sampling, Tensor, Tensor], tuple[Tensor, Tensor]]


def kernel_for(device: torch.device) -> Draw | None:
    """A kernel that draws as `choose` does and makes the noise itself; None where there is none.

    It takes logits [rows, vocabulary], the rule, and each row's stream and step, both [rows] int64.
    """
    if by_triton(device):
        from raybt.engine.kernels.sample import sample

        return sample
    return cpu_sample.sample if device.type == "cpu" and cpu_sample.kernel() else None


def choose(logits: Tensor, rule: Sampling, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw one token a row, exactly from the rule's distribution.

    The top-p set is the smallest whose mass reaches top_p (Holtzman et al. 2020), at least one token; tokens as likely
    as its least likely one belong to it, and to the top k alike.

    Args:
        logits: [rows, vocabulary]; written over, as is the noise: on a CPU fresh memory costs more than the arithmetic.
        noise: [rows, vocabulary] standard exponential; not read under greedy decoding.

    Returns:
        tokens [rows] int64 and whether the row's logits were usable [rows] bool (false: NaN or infinite).
    """
    if rule.greedy:
        best, tokens = logits.max(dim=-1)
        return tokens, torch.isfinite(best)
    assert noise is not None
    mass = unnormalised(logits, rule)
    race = torch.div(mass, noise, out=noise)
    best, tokens = race.max(dim=-1)
    if rule.top_p < 1.0:
        redo_misses(mass, race, tokens, rule.top_p)
    return tokens, torch.isfinite(best)


def unnormalised(logits: Tensor, rule: Sampling) -> Tensor:
    """Probabilities after temperature and top-k, times a number for each row; [rows, vocabulary] float32, in place."""
    scaled = logits.float()
    if 0 < rule.top_k < scaled.shape[-1]:
        least = scaled.topk(rule.top_k, dim=-1).values[:, -1:]
        scaled.masked_fill_(scaled < least, -torch.inf)
    scaled -= scaled.amax(dim=-1, keepdim=True)
    return scaled.div_(rule.temperature).exp_()


def redo_misses(mass: Tensor, race: Tensor, tokens: Tensor, top_p: float) -> None:
    """Take the best of the rest wherever the winner is outside the top-p set, until none is; writes into `tokens`."""
    rows, enough = torch.arange(len(tokens), device=tokens.device), top_p * mass.sum(-1)
    while True:
        likelier = mass > mass.gather(-1, tokens[rows, None])  # [missed, vocabulary]
        missed = (mass * likelier).sum(-1) >= enough
        if not missed.any():
            return
        rows, mass, race, enough = rows[missed], mass[missed], race[missed], enough[missed]
        tokens[rows] = (race * likelier[missed]).argmax(dim=-1)
