"""The scan: what each intervention at one position does to the next token, for all events of a text in one step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy
from raybt.engine.bank import Bank
from raybt.engine.hooks import Hooks
from raybt.engine.probe.copied import CopiedText
from raybt.engine.probe.shared import Text, prefilled_text
from raybt.engine.request import Term

Intervention = tuple[Term, ...]
ROWS = 512
"""Rows of one step: a text with more is read in several."""


@dataclass(frozen=True)
class Scan:
    """Next-token logits at each event under each intervention.

    Args:
        logits: [events, interventions, vocabulary] float32.
        identity: [events, vocabulary] the untouched model's, from the same step.
        noise: [events, vocabulary] the untouched model's from another row of that step, whose difference from
            `identity` is the noise floor: effects under it are rounding.
    """

    logits: Tensor
    identity: Tensor
    noise: Tensor

    def change(self, targets: Sequence[int]) -> Tensor:
        """Change of each event's target token's log-probability, [events, interventions]."""
        index = torch.tensor(list(targets), device=self.logits.device)
        after = self.logits.log_softmax(-1)[torch.arange(len(index)), :, index]
        before = self.identity.log_softmax(-1)[torch.arange(len(index)), index]
        return after - before[:, None]

    def mass(self, tokens: Sequence[int]) -> Tensor:
        """Probability of a set of tokens, [events, interventions]."""
        return self.logits.softmax(-1)[..., list(tokens)].sum(-1)

    def divergence(self) -> Tensor:
        """KL(untouched || intervention) of the next-token distribution in nats, [events, interventions]."""
        return divergence(self.identity[:, None], self.logits)

    def floor(self) -> Tensor:
        """Largest difference of logits that rounding alone made, [events]."""
        return (self.identity - self.noise).abs().amax(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis of logits, in float64: a small one is a difference of near equals."""
    before, after = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1)


@torch.inference_mode()
def scan(
    anatomy: Anatomy,
    tokens: Sequence[int],
    events: Sequence[int],
    interventions: Sequence[Intervention],
    bank: Bank | None = None,
) -> Scan:
    """Read the token before each event under each intervention, at that position only.

    The text is prefilled once, to the position before the last event; then single-token rows, one for every event and
    intervention and two untouched ones an event, read it together.

    Args:
        tokens: prompt and completion.
        events: positions of the tokens whose prediction is looked at, each at least 1.

    Raises:
        ValueError: an event lies outside the text.
    """
    if any(not 1 <= event < len(tokens) for event in events):
        raise ValueError(f"events must be positions 1 to {len(tokens) - 1} of the text; got {list(events)}")
    anatomy.demand("scan")
    text = prefilled_text(anatomy, tuple(tokens[: max(events)]))
    planned: list[Intervention] = [(), *interventions, ()]
    rows = [(event - 1, terms) for event in events for terms in planned]
    most = min(ROWS, text.most_rows)
    logits = torch.cat([read_rows(text, rows[start : start + most], bank) for start in range(0, len(rows), most)])
    table = logits.float().view(len(events), len(planned), -1)
    return Scan(table[:, 1:-1], table[:, 0], table[:, -1])


def read_rows(text: Text | CopiedText, rows: list[tuple[int, Intervention]], bank: Bank | None) -> Tensor:
    """Logits of rows (position, intervention), [rows, vocabulary]."""
    device = text.anatomy.device
    hooks = Hooks(text.anatomy, len(rows), bank)
    try:
        hooks.assign_all([terms for _, terms in rows])
        hooks.arm(torch.ones(len(rows), dtype=torch.bool, device=device))
        with hooks.on():
            return text.read(torch.tensor([position for position, _ in rows], device=device))
    finally:
        hooks.remove()
