"""Successive halving for the smallest subset and mildest scale that cut backtracking while accuracy stays.

Each rung judges its candidates on a longer prefix of the selecting half of the problems and keeps a share of them, so
that most rows go to candidates that are close. The last rung, on the whole half, names the winner, and the other half
confirms it, once. That no candidate meets both goals is a result like any other. All functions are pure: the same
estimates give the same search, in whatever order they come.

Estimates have one row a candidate: subset, scale, n_sites, problems, pairs, collapsed, onset_rate_baseline,
onset_rate, accuracy_baseline, accuracy (over all), and onset_difference and accuracy_difference, treated less
baseline, each with `_low` and `_high`. More columns do no harm.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan

import numpy as np
import pandas as pd

COLLAPSED, NO_PAIRS, NO_ONSETS = "collapsed", "no pairs", "the baseline never backtracks"
WITHIN, TOO_LITTLE, TOO_COSTLY = "within both goals", "cuts too little", "costs too much accuracy"
BOTH_MISSED = f"{TOO_LITTLE} and {TOO_COSTLY}"
_ROUNDING = 1e-9
_TAIL = 0.025  # of a 95% interval


@dataclass(frozen=True, order=True)
class Candidate:
    subset: str
    scale: float
    n_sites: int


@dataclass(frozen=True)
class Goal:
    """Cut the onset rate by the share `reduce` of the baseline's, and lose at most `margin` of accuracy."""

    reduce: float
    margin: float


@dataclass(frozen=True)
class Rung:
    """What a rung decided: who goes on, mildest first, and why the others do not."""

    survivors: tuple[Candidate, ...]
    dropped: dict[Candidate, str]


def first_rung(subsets: Mapping[str, Sequence[str]], scales: Sequence[float]) -> tuple[Candidate, ...]:
    """Every subset (name -> sites) at every scale; of subsets with the same sites the first, of empty ones none."""
    first: dict[frozenset[str], str] = {}
    for name, sites in subsets.items():
        if sites:
            first.setdefault(frozenset(sites), name)
    return tuple(Candidate(name, scale, len(sites)) for sites, name in first.items() for scale in scales)


def rung_problems(problems: Sequence[str], rung: int, rungs: int, eta: float) -> tuple[str, ...]:
    """The problems of a rung, counted from 0: a prefix, `eta` times as long each time, in the last rung all.

    Args:
        problems: of the selecting half, in hash order. At least 2 are taken, since fewer allow no interval.
    """
    share = eta ** (rung - (rungs - 1))
    return tuple(problems[: max(2, ceil(len(problems) * share - _ROUNDING))])


def judged(estimates: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """Estimates with `reduction`, `within` (both goals), `missed_by`, `proved`, `on_front` and `verdict`.

    `missed_by` is by how much the goal that is further off is missed, as a rate; negative where both are met with some
    to spare. `proved`: these problems would confirm it. Intervals that cannot be estimated are filled in.
    """
    rows = with_bounds(estimates)
    base = rows["onset_rate_baseline"]
    reduction = 1 - rows["onset_rate"] / base.where(base > 0)
    onset_missed, accuracy_missed = (goal.reduce - reduction) * base, -goal.margin - rows["accuracy_difference"]
    missed = np.maximum(onset_missed, accuracy_missed).fillna(np.inf)  # nan stays nan under maximum
    collapsed = rows["collapsed"].eq(True)
    within = ~collapsed & (missed <= _ROUNDING)
    proved = within & (rows["onset_difference_high"] < 0) & (rows["accuracy_difference_low"] >= -goal.margin)
    reasons = {  # the first that holds
        COLLAPSED: collapsed,
        NO_PAIRS: rows["pairs"] == 0,
        NO_ONSETS: reduction.isna(),
        WITHIN: within,
        BOTH_MISSED: (onset_missed > _ROUNDING) & (accuracy_missed > _ROUNDING),
        TOO_LITTLE: onset_missed > _ROUNDING,
    }
    verdict = np.select([mask.to_numpy() for mask in reasons.values()], list(reasons), TOO_COSTLY)
    more = {"reduction": reduction, "within": within, "missed_by": missed, "proved": proved, "on_front": front(rows)}
    return rows.assign(**more, verdict=verdict)


def after_rung(estimates: pd.DataFrame, candidates: Sequence[Candidate], *, goal: Goal, keep: float) -> Rung:
    """Who goes on after a rung: the share `keep` of the candidates, rounded up, and at most one more.

    First those go that collapsed or whose interval excludes a goal. Of the rest those within both goals come first,
    the mildest (fewest sites, then scale nearest 1, then largest reduction) before others, then those that miss by
    least. One that is within both goals with most to spare is kept in any case: in a small rung many mild ones are
    within by luck, and together they must not push out the one that is no luck. Where the baseline did not backtrack
    at all nothing is known, and a candidate stays.
    """
    rows = {_candidate(row): row for row in judged(estimates, goal).to_dict("records")}
    out = {one: reason for one in sorted(candidates) if (reason := _why_out(rows.get(one), goal))}
    ranked = sorted((one for one in set(candidates) if one not in out), key=lambda one: _rank(rows[one]))
    kept = set(ranked[: ceil(len(candidates) * keep - _ROUNDING)])
    kept.update(_safest(rows, ranked))
    kept.update(one for one in ranked if rows[one]["verdict"] == NO_ONSETS)
    beaten = {one: _why_beaten(rows[one]) for one in ranked if one not in kept}
    return Rung(tuple(one for one in ranked if one in kept), {**out, **beaten})


def winner(estimates: pd.DataFrame, goal: Goal) -> Candidate | None:
    """The mildest candidate of the last rung within both goals; None where none is.

    One that these problems would confirm goes before milder ones that they would not.
    """
    within = [row for row in judged(estimates, goal).to_dict("records") if row["within"]]
    ranked = sorted(within, key=lambda row: (not row["proved"], *_mildness(row)))
    return _candidate(ranked[0]) if ranked else None


def tally(estimates: pd.DataFrame, goal: Goal) -> str:
    """How many candidates have which verdict: the reason where there is no winner."""
    counts = Counter(judged(estimates, goal)["verdict"])
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items(), key=lambda one: (-one[1], one)))


def confirmation(estimate: Mapping, goal: Goal) -> tuple[str, bool]:
    """Whether the confirming half confirms the winner, and one sentence that says so, or which goals failed.

    Confirmed: not collapsed, reduced by as much as was asked for and beyond chance (interval below 0), and the whole
    interval of the accuracy difference within the margin.

    Args:
        estimate: the winner's row of estimates on that half.
    """
    row = judged(pd.DataFrame([dict(estimate)]), goal).to_dict("records")[0]
    failures = "; ".join(_failures(row, goal))
    if failures:
        return f"not confirmed: {failures}", False
    return f"confirmed: backtracking falls by {row['reduction']:.0%} ({_range(row, 'onset')}), accuracy changes by " + (
        f"{100 * row['accuracy_difference'] + 0.0:+.1f} points ({_range(row, 'accuracy')})"
    ), True


def front(estimates: pd.DataFrame) -> pd.Series:
    """Which candidates no other beats in one of onset rate (low) and accuracy (high) without losing in the other.

    Collapsed ones are never on the front and beat nobody.
    """
    fit = ~estimates["collapsed"].eq(True) & estimates["onset_rate"].notna() & estimates["accuracy"].notna()
    onsets, accuracy = estimates["onset_rate"].to_numpy(float), estimates["accuracy"].to_numpy(float)
    no_worse = (onsets[:, None] <= onsets) & (accuracy[:, None] >= accuracy)  # [by, of]
    better = (onsets[:, None] < onsets) | (accuracy[:, None] > accuracy)
    beaten = (no_worse & better & fit.to_numpy()[:, None]).any(0)
    return fit & ~beaten


def with_bounds(estimates: pd.DataFrame) -> pd.DataFrame:
    """Estimates in which a missing interval is filled in where all problems show one same difference d.

    Nothing can be estimated from them, but much is known: with confidence 95% at most a share b of all problems
    differs, 0.025 = (1 - b)^problems (Clopper & Pearson's bound, the "rule of three"), and differences lie from -1 to
    1. So the mean lies from d - b (1 + d) to d + b (1 - d).
    """
    rows = estimates.copy()
    share = 1 - _TAIL ** (1 / rows["problems"].where(rows["problems"] > 0))
    for stem in ("onset_difference", "accuracy_difference"):
        d, known = rows[stem], rows[f"{stem}_low"].notna() & rows[f"{stem}_high"].notna()
        rows[f"{stem}_low"] = rows[f"{stem}_low"].where(known, d - share * (1 + d))
        rows[f"{stem}_high"] = rows[f"{stem}_high"].where(known, d + share * (1 - d))
    return rows


def _candidate(row: Mapping) -> Candidate:
    return Candidate(row["subset"], float(row["scale"]), int(row["n_sites"]))


def _mildness(row: Mapping) -> tuple:
    """Sort key, the mildest first; the name decides between equals."""
    reduction = 0.0 if isnan(row["reduction"]) else row["reduction"]  # nan has no order
    return int(row["n_sites"]), round(abs(1 - row["scale"]), 9), -reduction, row["subset"], row["scale"]


def _rank(row: Mapping) -> tuple:
    return not row["within"], 0.0 if row["within"] else row["missed_by"], *_mildness(row)


def _safest(rows: Mapping[Candidate, Mapping], ranked: Sequence[Candidate]) -> list[Candidate]:
    within = [one for one in ranked if rows[one]["within"]]
    return [min(within, key=lambda one: rows[one]["missed_by"])] if within else []


def _why_out(row: Mapping | None, goal: Goal) -> str | None:
    """Why a candidate need not be looked at again, if so."""
    if row is None or row["verdict"] == NO_PAIRS:
        return NO_PAIRS
    if row["verdict"] == COLLAPSED:
        return COLLAPSED
    if row["accuracy_difference_high"] < -goal.margin:
        lost = -100 * row["accuracy_difference_high"]
        return f"costs at least {lost:.1f} points of accuracy, {100 * goal.margin:g} are allowed"
    if row["onset_difference_low"] > -goal.reduce * row["onset_rate_baseline"] and row["verdict"] != NO_ONSETS:
        most = max(0.0, -row["onset_difference_low"] / row["onset_rate_baseline"])
        return f"cuts backtracking by at most {most:.0%}, {goal.reduce:.0%} is asked for"
    return None


def _why_beaten(row: Mapping) -> str:
    if row["within"]:
        return "within both goals, and so are milder ones"
    return f"misses a goal by {100 * row['missed_by']:.1f} points, others by less"


def _failures(row: Mapping, goal: Goal) -> Iterator[str]:
    if row["verdict"] in (COLLAPSED, NO_PAIRS, NO_ONSETS):
        yield row["verdict"]
        return
    if row["reduction"] < goal.reduce - _ROUNDING:
        yield f"backtracking falls by {row['reduction']:.0%}, {goal.reduce:.0%} is asked for"
    if not row["onset_difference_high"] < 0:
        yield f"the change of backtracking may be chance ({_range(row, 'onset')})"
    if not row["accuracy_difference_low"] >= -goal.margin:
        lost = -100 * row["accuracy_difference_low"]
        yield f"accuracy may fall by {lost:.1f} points, {100 * goal.margin:g} are allowed ({_range(row, 'accuracy')})"


def _range(row: Mapping, measure: str) -> str:
    low, high = (100 * row[f"{measure}_difference_{side}"] for side in ("low", "high"))
    return f"95% interval {low:+.1f} to {high:+.1f} points"
