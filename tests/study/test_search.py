"""The search: planted winners, no winner, and that neither order nor company changes a decision."""

from math import ceil, nan

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raybt.measure.statistics import paired_difference
from raybt.study.search import (
    Candidate,
    Goal,
    after_rung,
    confirmation,
    first_rung,
    front,
    judged,
    rung_problems,
    tally,
    winner,
    with_bounds,
)

GOAL = Goal(reduce=0.5, margin=0.05)
BASE = 0.4  # onset rate
ACCURACY = 0.6
PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)


def row(subset, scale=0.0, n_sites=1, reduction=0.8, loss=0.0, onset_reach=0.05, accuracy_reach=0.03, **more):
    """One estimate: `reduction` of the onset rate, `loss` of accuracy, each with half an interval's width."""
    onset = -reduction * BASE
    return {
        "subset": subset, "scale": scale, "n_sites": n_sites, "problems": 60, "pairs": 240, "collapsed": False,
        "onset_rate_baseline": BASE, "onset_rate": BASE + onset, "onset_difference": onset,
        "onset_difference_low": onset - onset_reach, "onset_difference_high": onset + onset_reach,
        "accuracy_baseline": ACCURACY, "accuracy": ACCURACY - loss, "accuracy_difference": -loss,
        "accuracy_difference_low": -loss - accuracy_reach, "accuracy_difference_high": -loss + accuracy_reach,
        **more,
    }  # fmt: skip


def table(*rows):
    return pd.DataFrame(list(rows))


def candidates_of(estimates):
    return [Candidate(one.subset, one.scale, one.n_sites) for one in estimates.itertuples()]


def decide(estimates, keep=0.34, goal=GOAL):
    return after_rung(estimates, candidates_of(estimates), goal=goal, keep=keep)


def names(candidates):
    return [one.subset for one in candidates]


ROWS = st.builds(
    row,
    subset=st.sampled_from("abcdefgh"),
    scale=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    n_sites=st.integers(1, 4),
    reduction=st.integers(-2, 10).map(lambda tenths: tenths / 10),
    loss=st.integers(-5, 15).map(lambda points: points / 100),
    onset_reach=st.sampled_from([0.02, 0.1, 0.3, nan]),
    accuracy_reach=st.sampled_from([0.02, 0.1, 0.3, nan]),
    collapsed=st.sampled_from([False, False, False, True]),
)
TABLES = st.lists(ROWS, min_size=1, max_size=12, unique_by=lambda one: (one["subset"], one["scale"])).map(
    lambda rows: table(*rows)
)


def test_the_first_rung_crosses_subsets_and_scales_and_takes_equal_subsets_once():
    subsets = {"late": ("mlp.5", "mlp.4"), "one": ("mlp.5",), "none": (), "again": ("mlp.4", "mlp.5")}
    assert first_rung(subsets, (0.0, 0.5)) == (
        Candidate("late", 0.0, 2),
        Candidate("late", 0.5, 2),
        Candidate("one", 0.0, 1),
        Candidate("one", 0.5, 1),
    )


@PROPERTY
@given(st.integers(1, 300), st.integers(1, 5), st.sampled_from([1 / 0.34, 2, 3, 1 / 0.9]))
def test_rungs_are_nested_prefixes_that_end_in_the_whole_half(count, rungs, eta):
    problems = [f"p{number}" for number in range(count)]
    sizes = []
    for rung in range(rungs):
        there = rung_problems(problems, rung, rungs, eta)
        assert list(there) == problems[: len(there)] and len(there) >= min(2, count)
        sizes.append(len(there))
    assert sizes == sorted(sizes) and sizes[-1] == count


def test_rungs_grow_by_eta():
    assert [len(rung_problems(range(90), rung, 3, 3)) for rung in range(3)] == [10, 30, 90]


def test_the_mildest_within_both_goals_wins():
    estimates = table(
        row("all", n_sites=12, reduction=1.0),
        row("two", n_sites=2, reduction=0.9),
        row("one", scale=0.0, reduction=0.7),
        row("one", scale=0.25, reduction=0.55),  # the planted winner
        row("one", scale=0.5, reduction=0.3),
        row("broken", reduction=1.0, collapsed=True),
        row("costly", scale=0.5, reduction=0.9, loss=0.2),
    )
    assert winner(estimates, GOAL) == Candidate("one", 0.25, 1)
    assert tally(estimates, GOAL) == "4 within both goals, 1 collapsed, 1 costs too much accuracy, 1 cuts too little"


def test_one_that_would_be_confirmed_goes_before_a_milder_one_that_would_not():
    unsure = row("one", scale=0.5, reduction=0.6, accuracy_reach=0.2)
    assert winner(table(unsure, row("two", n_sites=2)), GOAL) == Candidate("two", 0.0, 2)
    assert winner(table(unsure), GOAL) == Candidate("one", 0.5, 1)


def test_none_within_the_goals_is_a_result():
    estimates = table(
        row("a", reduction=0.2), row("b", loss=0.3), row("c", reduction=0.1, loss=0.3), row("d", collapsed=True)
    )
    assert winner(estimates, GOAL) is None
    assert tally(estimates, GOAL) == (
        "1 collapsed, 1 costs too much accuracy, 1 cuts too little, 1 cuts too little and costs too much accuracy"
    )
    assert decide(estimates).survivors == ()  # every interval excludes a goal
    assert list(front(estimates)) == [True, True, False, False]


def test_dropped_candidates_say_why():
    estimates = table(
        row("kept", reduction=0.9),
        row("weak", reduction=0.1),
        row("costly", loss=0.2),
        row("broken", collapsed=True),
        row("failed", pairs=0, onset_rate=nan, onset_difference=nan, accuracy=nan, accuracy_difference=nan),
        row("harsher", n_sites=3, reduction=0.8),
        row("near", reduction=0.45),
    )
    found = after_rung(estimates, [*candidates_of(estimates), Candidate("lost", 0.0, 1)], goal=GOAL, keep=0.1)
    assert names(found.survivors) == ["kept"]
    assert {one.subset: reason for one, reason in found.dropped.items()} == {
        "weak": "cuts backtracking by at most 22%, 50% is asked for",
        "costly": "costs at least 17.0 points of accuracy, 5 are allowed",
        "broken": "collapsed",
        "failed": "no pairs",
        "lost": "no pairs",
        "harsher": "within both goals, and so are milder ones",
        "near": "misses a goal by 2.0 points, others by less",
    }


def test_near_misses_go_on_where_none_is_within():
    estimates = table(
        row("far", reduction=0.0, onset_reach=0.5), row("near", n_sites=9, reduction=0.45, onset_reach=0.5)
    )
    assert names(decide(estimates, keep=0.5).survivors) == ["near"]


def test_lucky_mild_candidates_do_not_push_out_the_sure_one():
    lucky = [row(f"lucky{number}", scale=0.75, reduction=0.55, onset_reach=0.3) for number in range(6)]
    found = decide(table(*lucky, row("sure", n_sites=5, reduction=1.0)), keep=0.3)
    assert "sure" in names(found.survivors) and len(found.survivors) == 4


def test_a_rung_without_a_baseline_onset_decides_only_on_accuracy():
    silent = {"onset_rate_baseline": 0.0, "onset_rate": 0.0, "onset_difference": 0.0}
    silent |= {"onset_difference_low": nan, "onset_difference_high": nan}
    estimates = table(*(row(name, **silent) for name in "abc"), row("costly", loss=0.3, **silent))
    found = decide(estimates)
    assert names(found.survivors) == ["a", "b", "c"] and names(found.dropped) == ["costly"]
    assert winner(estimates, GOAL) is None
    assert confirmation(estimates.iloc[0], GOAL) == ("not confirmed: the baseline never backtracks", False)


@PROPERTY
@given(TABLES, st.randoms(use_true_random=False), st.sampled_from([0.1, 0.34, 0.7]))
def test_the_order_of_rows_and_candidates_changes_nothing(estimates, random, keep):
    order = list(range(len(estimates)))
    random.shuffle(order)
    shuffled = estimates.iloc[order].reset_index(drop=True)
    assert decide(shuffled, keep) == decide(estimates, keep)
    assert winner(shuffled, GOAL) == winner(estimates, GOAL)
    assert list(front(shuffled)) == list(front(estimates).iloc[order])
    assert tally(shuffled, GOAL) == tally(estimates, GOAL)


@PROPERTY
@given(TABLES, st.sampled_from([0.1, 0.34, 0.7]))
def test_a_rung_keeps_its_share_and_drops_none_that_is_milder_than_all_it_keeps(estimates, keep):
    found, rows = decide(estimates, keep), judged(estimates, GOAL)
    assert sorted([*found.survivors, *found.dropped]) == sorted(candidates_of(estimates))
    assert len(found.survivors) <= ceil(len(estimates) * keep) + 1
    within = {Candidate(one.subset, one.scale, one.n_sites) for one in rows[rows["within"]].itertuples()}
    possible = [one for one in within if found.dropped.get(one, "within").startswith("within")]
    mildest = min(possible, key=lambda one: (one.n_sites, 1 - one.scale), default=None)
    if mildest:
        kept = [(one.n_sites, 1 - one.scale) for one in found.survivors if one in within]
        assert min(kept) == (mildest.n_sites, 1 - mildest.scale)
    assert not any(found.dropped[one] == "collapsed" for one in within if one in found.dropped)


@PROPERTY
@given(TABLES)
def test_the_winner_is_within_both_goals_and_there_is_one_wherever_one_is(estimates):
    best, rows = winner(estimates, GOAL), judged(estimates, GOAL)
    assert (best is None) == (not rows["within"].any())
    if best:
        won = rows[(rows["subset"] == best.subset) & (rows["scale"] == best.scale)].iloc[0]
        assert won["reduction"] >= GOAL.reduce - 1e-9 and won["accuracy_difference"] >= -GOAL.margin - 1e-9
        assert not won["collapsed"]


@PROPERTY
@given(TABLES, st.integers(0, 3), st.integers(0, 3), st.integers(0, 5), st.integers(0, 5))
def test_adding_a_dominated_candidate_changes_no_winner(estimates, sites, scale, onsets, accuracy):
    """Harsher or as harsh, and worse or as bad in every estimate and bound, than the winner."""
    best = winner(estimates, GOAL)
    assume(best is not None)
    won = estimates[(estimates["subset"] == best.subset) & (estimates["scale"] == best.scale)].iloc[0].to_dict()
    worse = {**won, "subset": "z", "n_sites": won["n_sites"] + sites, "scale": max(0.0, won["scale"] - scale / 4)}
    for name in ("onset_rate", "onset_difference", "onset_difference_low", "onset_difference_high"):
        worse[name] = won[name] + onsets / 50
    for name in ("accuracy", "accuracy_difference", "accuracy_difference_low", "accuracy_difference_high"):
        worse[name] = won[name] - accuracy / 50
    assert winner(pd.concat([estimates, table(worse)]), GOAL) == best


@PROPERTY
@given(TABLES, st.sampled_from([0.3, 0.5, 0.8]), st.sampled_from([0.0, 0.05, 0.1]))
def test_looser_goals_never_lose_a_winner(estimates, reduce, margin):
    if winner(estimates, Goal(reduce, margin)):
        assert winner(estimates, Goal(reduce - 0.2, margin))
        assert winner(estimates, Goal(reduce, margin + 0.1))


@PROPERTY
@given(TABLES)
def test_the_front_is_what_nothing_beats(estimates):
    on_front, rows = list(front(estimates)), estimates.to_dict("records")
    fit = [one for one in rows if not one["collapsed"]]

    def beaten(one):
        return any(
            by["onset_rate"] <= one["onset_rate"]
            and by["accuracy"] >= one["accuracy"]
            and (by["onset_rate"] < one["onset_rate"] or by["accuracy"] > one["accuracy"])
            for by in fit
        )

    assert on_front == [not one["collapsed"] and not beaten(one) for one in rows]
    assert any(on_front) == bool(fit)


def test_a_confirmed_winner():
    text, confirmed = confirmation(row("one", reduction=0.7), GOAL)
    assert confirmed and text == (
        "confirmed: backtracking falls by 70% (95% interval -33.0 to -23.0 points), "
        "accuracy changes by +0.0 points (95% interval -3.0 to +3.0 points)"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"collapsed": True}, "collapsed"),
        ({"reduction": 0.4}, "backtracking falls by 40%, 50% is asked for"),
        ({"onset_reach": 0.4}, "may be chance (95% interval -72.0 to +8.0 points)"),
        ({"accuracy_reach": 0.08}, "accuracy may fall by 8.0 points, 5 are allowed"),
        ({"pairs": 0, "onset_rate": nan, "onset_difference": nan, "accuracy_difference": nan}, "no pairs"),
    ],
)
def test_each_way_not_to_be_confirmed_is_said(change, says):
    text, confirmed = confirmation(row("one", **change), GOAL)
    assert not confirmed and text.startswith("not confirmed: ") and says in text


def test_all_failures_are_said():
    text, _ = confirmation(row("one", reduction=0.1, onset_reach=0.2, loss=0.1), GOAL)
    assert text.count(";") == 2


def test_where_all_problems_agree_their_number_bounds_the_mean():
    """Accuracy the same in every pair has no interval; that must neither confirm nor refute by itself."""
    same = {"accuracy_difference_low": nan, "accuracy_difference_high": nan}
    few, many = row("one", problems=20, **same), row("one", problems=100, **same)
    assert confirmation(many, GOAL)[1] and not confirmation(few, GOAL)[1]
    filled = with_bounds(table(few, many, row("whole")))
    assert list(filled["accuracy_difference_low"]) == pytest.approx([-0.168, -0.036, -0.03], abs=1e-3)
    gone = {"onset_difference": -1.0, "onset_difference_low": nan, "onset_difference_high": nan}
    assert with_bounds(table(row("one", problems=100, **gone))).loc[0, "onset_difference_high"] == pytest.approx(
        -1 + 2 * 0.036, abs=1e-3
    )


EFFECTS = {  # subset -> (sites, share of onsets cut at scale 0, share of right answers lost)
    "planted": (1, 0.9, 0.0),
    "with_planted": (3, 0.95, 0.02),
    "idle": (1, 0.0, 0.0),
    "harmful": (2, 0.9, 0.5),
    "breaks": (4, 1.0, 0.95),
}


def measured(rng, candidate, problems, samples=4):
    """Estimates of one candidate on simulated rows, with noise shared by a pair."""
    _, cut, lost = EFFECTS[candidate.subset]
    dose = 1 - candidate.scale
    onset_rate, accuracy = rng[0][problems], rng[1][problems]  # [problems, 1]: problems differ
    noise = rng[2][:, problems], rng[3][:, problems]
    onsets = [noise[0] < rate for rate in (onset_rate, onset_rate * (1 - cut * dose))]
    right = [noise[1] < rate for rate in (accuracy, accuracy * (1 - lost * dose))]
    clusters = np.broadcast_to(np.asarray(problems), onsets[0].shape).ravel()
    found = {"subset": candidate.subset, "scale": candidate.scale, "n_sites": candidate.n_sites}
    found |= {"problems": len(problems), "pairs": onsets[0].size, "collapsed": right[1].mean() < 0.1}
    for name, (before, after) in {"onset": onsets, "accuracy": right}.items():
        d, low, high, _ = paired_difference(before.ravel(), after.ravel(), clusters)
        found |= {f"{name}_difference": d, f"{name}_difference_low": low, f"{name}_difference_high": high}
        rate = "onset_rate" if name == "onset" else name
        found |= {f"{rate}_baseline": before.mean(), rate: after.mean()}
    return found


def searched(seed, effects=EFFECTS, problems=80, rungs=3, eta=3):
    """The whole search on simulated rows: (winner, confirmed, rows spent)."""
    draw = np.random.default_rng(seed)
    world = draw.beta(4, 6, 2 * problems), draw.beta(6, 4, 2 * problems), *draw.random((2, 4, 2 * problems))
    subsets = {name: [f"{name}.{number}" for number in range(size)] for name, (size, _, _) in effects.items()}
    left, spent = first_rung(subsets, (0.0, 0.5)), 0
    for rung in range(rungs):
        there = rung_problems(range(problems), rung, rungs, eta)
        estimates = pd.DataFrame([measured(world, one, list(there)) for one in left])
        spent += len(left) * len(there)
        if rung < rungs - 1:
            left = after_rung(estimates, left, goal=GOAL, keep=1 / eta).survivors
        if not left:
            return None, False, spent
    best = winner(estimates, GOAL)
    if best is None:
        return None, False, spent
    return best, confirmation(measured(world, best, list(range(problems, 2 * problems))), GOAL)[1], spent


def test_a_planted_intervention_is_found_and_confirmed_and_most_rows_are_saved():
    found = [searched(seed) for seed in range(8)]
    assert {best for best, _, _ in found} == {Candidate("planted", 0.0, 1)}
    assert sum(confirmed for _, confirmed, _ in found) >= 7
    assert max(spent for _, _, spent in found) < 0.5 * 80 * 10


def test_where_nothing_is_planted_nothing_is_confirmed():
    harmful = {name: EFFECTS[name] for name in ("idle", "harmful", "breaks")}
    assert not any(confirmed for _, confirmed, _ in (searched(seed, harmful) for seed in range(8)))
