"""Which onsets are measured, and the places without an onset that each is held against.

An onset has two controls, both in completions of the same prompt variant in which no trigger stands, strict or
relaxed: `position` is the token at the onset's very index, `context` the start of the sentence nearest to that index.
The first says whether what is seen at onsets comes from how far along they are, the second whether it comes from a
sentence beginning there.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from math import ceil
from typing import Literal

import numpy as np
import pandas as pd

from raybt.study.split import digest, hash_order

Role = Literal["onset", "position", "context"]
FAIR_SHARES = 3
"""A completion gives at most this many times its fair share of the controls of a role, and at least one."""

_FAR = 2**40  # tokens; further than any completion is long


@dataclass(frozen=True)
class Event:
    """A token of a completion whose prediction is measured.

    Args:
        source: key of the completion. token: index in it, from 0.
        target: id of the token whose probability is followed.
        of: id of the onset that a control belongs to; an onset's own id.
    """

    source: str
    variant: str
    problem: str
    sample: int
    token: int
    target: int
    role: Role
    of: str

    @property
    def id(self) -> str:
        return event_id(self.source, self.token)


@dataclass(frozen=True)
class Matched:
    """Controls, and for each role the ids of the onsets that found none."""

    events: tuple[Event, ...]
    unmatched: dict[Role, tuple[str, ...]]


def event_id(source: str, token: int) -> str:
    return f"{source}:{token}"


def choose_events(
    grades: pd.DataFrame, *, limit: int, per_problem: int, seed: int, problems: Collection[str]
) -> list[Event]:
    """At most `limit` onsets, at most `per_problem` of a problem: the first of every problem, then the second, ...

    A completion has at most one, its onset, and only where a strict trigger made it. Problems go in hash order, and
    so do a problem's completions.

    Args:
        grades: graded baseline rows, in any order: key, variant, problem, sample, n_tokens, onset_strict,
            onset_token, and onset_token_id, the id of the token there. A key that two variants share (their prompts
            are the same) counts once.
        problems: those that may be used.
    """
    rows = _rows(grades, problems, seed)
    onsets = [_onset(row) for row in rows if row["onset_strict"]]
    queues = [[event for event in onsets if event.problem == problem] for problem in hash_order(problems, seed)]
    rounds = zip_longest(*(queue[:per_problem] for queue in queues))
    return [event for event in chain.from_iterable(rounds) if event is not None][:limit]


def match_controls(
    onsets: Sequence[Event],
    grades: pd.DataFrame,
    token_ids: Mapping[str, Sequence[int]],
    *,
    seed: int,
    problems: Collection[str],
    target: Literal["onset", "written"],
) -> Matched:
    """At most one control of each role for each onset.

    Completions and places that serve no other onset yet are taken first, so that controls are spread; a place serves
    twice in a role only where nothing else is left.

    Args:
        grades: as for `choose_events`, with onset_relaxed, and sentence_starts (token indices).
        token_ids: tokens of the completions without a trigger, by key.
        target: what a control follows: its onset's target, or the token that was `written` at the control's place.

    Raises:
        ValueError: a completion has not as many tokens as its grade says.
    """
    rows = _rows(grades, problems, seed)
    calm = [row for row in rows if not row["onset_strict"] and not row["onset_relaxed"]]
    _check_lengths(calm, token_ids)
    found: dict[Role, list[Event]] = {"position": [], "context": []}
    for variant in sorted({onset.variant for onset in onsets}):
        served = [onset for onset in onsets if onset.variant == variant]
        able = [row for row in calm if row["variant"] == variant]
        found["position"] += _by_position(served, able, seed)
        found["context"] += _by_context(served, able, seed)
    events = [_followed(event, token_ids, target) for role in found for event in found[role]]
    return Matched(tuple(events), {role: _without(onsets, found[role]) for role in found})


def _by_position(onsets: Sequence[Event], calm: list[dict], seed: int) -> list[Event]:
    """The token at the same index of a completion drawn at random among those that served least."""
    uses, chosen = Counter(), []
    for onset in onsets:
        long_enough = [row for row in calm if row["n_tokens"] > onset.token]
        if long_enough:
            row = min(long_enough, key=lambda row: (uses[row["key"]], digest(seed, "position", onset.id, row["key"])))
            uses[row["key"]] += 1
            chosen.append(_control(row, onset.token, "position", onset))
    return chosen


def _by_context(onsets: Sequence[Event], calm: list[dict], seed: int) -> list[Event]:
    """The sentence start nearest to the onset's index, of a completion that has not served its share."""
    places = [(index, int(start)) for index, row in enumerate(calm) for start in row["sentence_starts"]]
    if not places:
        return []
    owner, start = np.array(places).T  # [places]
    uses, taken, chosen = np.zeros(len(calm), int), np.zeros(len(places), bool), []
    most = ceil(FAIR_SHARES * len(onsets) / len(np.unique(owner)))  # together they can always serve all onsets
    for onset in onsets:
        cost = np.abs(start - onset.token) + np.where(taken, _FAR, 0) + np.where(uses[owner] >= most, 2 * _FAR, 0)
        nearest = np.flatnonzero(cost == cost.min())
        place = min(nearest, key=lambda place: digest(seed, "context", onset.id, calm[owner[place]]["key"]))
        uses[owner[place]] += 1
        taken[place] = True
        chosen.append(_control(calm[owner[place]], int(start[place]), "context", onset))
    return chosen


def _onset(row: dict) -> Event:
    source, token = row["key"], int(row["onset_token"])
    target, of = int(row["onset_token_id"]), event_id(source, token)
    return Event(source, row["variant"], row["problem"], int(row["sample"]), token, target, "onset", of)


def _control(row: dict, token: int, role: Role, onset: Event) -> Event:
    return Event(row["key"], row["variant"], row["problem"], int(row["sample"]), token, onset.target, role, onset.id)


def _followed(event: Event, token_ids: Mapping[str, Sequence[int]], target: Literal["onset", "written"]) -> Event:
    written = int(token_ids[event.source][event.token])  # raises where the completion is not that long
    return event if target == "onset" else replace(event, target=written)


def _without(onsets: Sequence[Event], controls: Sequence[Event]) -> tuple[str, ...]:
    served = {event.of for event in controls}
    return tuple(onset.id for onset in onsets if onset.id not in served)


def _rows(grades: pd.DataFrame, problems: Collection[str], seed: int) -> list[dict]:
    """Rows of these problems in hash order, each key once."""
    rows = grades.loc[grades["problem"].isin(list(problems))].sort_values(["key", "variant"]).drop_duplicates("key")
    return sorted(rows.to_dict("records"), key=lambda row: (digest(seed, "completion", row["key"]), row["key"]))


def _check_lengths(rows: list[dict], token_ids: Mapping[str, Sequence[int]]) -> None:
    wrong = [row["key"] for row in rows if len(token_ids[row["key"]]) != row["n_tokens"]]
    if wrong:
        raise ValueError(f"grades and completions differ in length: {wrong[:3]}")
