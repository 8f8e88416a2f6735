"""What interventions at one position do to the next token, as a few numbers each: a scan whose logits are not kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy
from raybt.engine.bank import Bank
from raybt.engine.probe.copied import CopiedText
from raybt.engine.probe.scan import Intervention, divergence, read_rows
from raybt.engine.probe.shared import Text, prefilled_text

MOST_ROWS = 512
LOGIT_BYTES = 1 << 28
"""Logits of one step, at most: a large vocabulary takes fewer rows."""


@dataclass(frozen=True)
class Effects:
    """The next token at one event, untouched (p) and under each intervention (q), T the trigger set.

    Args:
        target, mass, words: log p(target), p(T), and p of each set of words.
        floor: the largest of (target change, mass change, KL) between two untouched rows of the same step: rounding.
        target_change: [interventions] log q(target) - log p(target).
        trigger_mass: [interventions] q(T).
        kl: [interventions] KL(p || q) in nats.
        kl_trigger: [interventions] KL of the two-way split T / not T. By the chain rule kl is this plus what moves
            within T and within not T, so 0 <= kl_trigger <= kl.
        agrees: [interventions] whether the likeliest token is the same.
        word_mass: [interventions, words].
    """

    target: float
    mass: float
    words: list[float]
    floor: tuple[float, float, float]
    target_change: list[float]
    trigger_mass: list[float]
    kl: list[float]
    kl_trigger: list[float]
    agrees: list[bool]
    word_mass: list[list[float]]


@torch.inference_mode()
def effects(
    anatomy: Anatomy,
    tokens: Sequence[int],
    events: Sequence[int],
    targets: Sequence[int],
    interventions: Sequence[Intervention],
    triggers: Sequence[int],
    words: Sequence[Sequence[int]] = (),
    bank: Bank | None = None,
) -> list[Effects]:
    """Read the token before each event under each intervention, at that position only.

    The whole text is prefilled once, and every event has steps of its own, so that no number depends on which events
    are asked for together.

    Args:
        tokens: prompt and completion.
        events: positions of the tokens whose prediction is looked at, each at least 1.
        targets: the token that each event follows.
        triggers: token ids whose probability is summed up; words: likewise, set by set.

    Raises:
        ValueError: an event lies outside the text.
    """
    if any(not 1 <= event <= len(tokens) for event in events):
        raise ValueError(f"events must be positions 1 to {len(tokens)} of the text; got {list(events)}")
    anatomy.demand("scan")
    text = prefilled_text(anatomy, tuple(tokens))
    planned: list[Intervention] = [(), (), *interventions]
    found = []
    for event, target in zip(events, targets, strict=True):
        steps = _measured(text, event, target, planned, triggers, words, bank)
        found.append(_summed_up([row for step in steps for row in step]))
    return found


Row = tuple[float, float, float, float, float, bool, list[float]]


def _measured(text: Text | CopiedText, event: int, target: int, planned, triggers, words, bank) -> Iterator[list[Row]]:
    """Rows of measures, a step at a time; each step begins with an untouched row, which its rows are held against."""
    most = max(16, min(MOST_ROWS, text.most_rows, LOGIT_BYTES // (4 * text.anatomy.vocabulary))) - 1
    for start in range(0, len(planned), most):
        rows = [(event - 1, terms) for terms in [(), *planned[start : start + most]]]
        logits = read_rows(text, rows, bank).float()
        yield _rows(logits[0], logits[1:], target, triggers, words)


def _rows(before: Tensor, after: Tensor, target: int, triggers, words) -> list[Row]:
    """Measures of each row of logits `after` [rows, vocabulary] against `before` [vocabulary]."""
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    mass, untouched = q[:, list(triggers)].double().exp().sum(-1), p[list(triggers)].double().exp().sum()
    columns = (
        q[:, target],
        q[:, target] - p[target],
        mass,
        torch.stack([divergence(before, row) for row in after]),
        _two_way(untouched, mass),
        after.argmax(-1) == before.argmax(-1),
        torch.stack([q[:, list(one)].double().exp().sum(-1) for one in words], -1) if words else torch.zeros(len(q), 0),
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _two_way(p: Tensor, q: Tensor) -> Tensor:
    """KL in nats between coins that fall on their first side with probability p and q; q: [rows]."""
    p, q = (x.clamp(1e-300, 1 - 1e-16) for x in (p.expand_as(q), q))
    return (p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())).clamp(min=0)


def _summed_up(rows: list[Row]) -> Effects:
    """The first two rows are untouched ones."""
    target, _, mass, *_, words = rows[0]
    floor = (
        max(abs(row[1]) for row in rows[:2]),
        abs(rows[1][2] - mass),
        max(row[3] for row in rows[:2]),
    )
    treated = rows[2:]
    columns = [list(column) for column in zip(*treated, strict=True)] or [[] for _ in rows[0]]
    return Effects(target, mass, words, floor, *columns[1:])
