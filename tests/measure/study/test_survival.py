import numpy as np
import pandas as pd
import pytest

from raybt.measure.statistics import clustered_rate
from raybt.measure.study.survival import placement_table, survival_table
from raybt.store.schemas.study import PLACEMENT_TABLE, SURVIVAL_TABLE
from tests.measure.completions import graded_rows, unfinished
from tests.measure.study.made import row


def rows(*said, condition="baseline"):
    """said: (problem, tokens, onset token or None)."""
    frame = pd.DataFrame(said, columns=["problem", "n_tokens", "onset_token"])
    frame["onset_strict"] = frame["onset_token"].notna()
    return frame.assign(stage="grid", condition=condition, variant="default", verdict="correct")


def test_by_hand():
    """Onset at the 3rd token, end after 5, onset at the 6th and at the 8th: 3/4, then 1/2 of that, then none."""
    table = survival_table(rows(("a", 9, 2), ("a", 5, None), ("b", 10, 5), ("b", 12, 7)))
    assert table.schema == SURVIVAL_TABLE
    lines = {line["token"]: line for line in table.to_pylist()}
    assert list(lines) == list(range(9))  # up to the last onset
    shares = [lines[token]["survival"] for token in (0, 2, 3, 5, 6, 7, 8)]
    assert shares == pytest.approx([1, 1, 3 / 4, 3 / 4, 3 / 8, 3 / 8, 0])
    assert [lines[token]["at_risk"] for token in (0, 3, 4, 5, 6, 8)] == [4, 4, 3, 3, 2, 1]
    assert [lines[token]["onsets"] for token in (0, 2, 3, 5, 6, 8)] == [0, 0, 1, 1, 2, 3]


def test_without_censoring_the_interval_is_that_of_the_rate():
    rng = np.random.default_rng(0)
    problems = np.repeat([f"p{i}" for i in range(20)], 6)
    rates = np.repeat(rng.random(20), 6)
    onset = np.where(rng.random(120) < rates, rng.integers(0, 100, 120), np.nan)
    made = rows(*zip(problems, [100] * 120, onset, strict=True))
    for line in survival_table(made).to_pylist():
        by_then = onset < line["token"]
        rate, low, high = clustered_rate(by_then, problems)
        assert (line["survival"], line["survival_low"], line["survival_high"]) == pytest.approx(
            (1 - rate, 1 - high, 1 - low)
        )
        assert line["onsets"] == by_then.sum()


def test_problems_that_differ_widen_the_interval():
    alike = rows(*((f"p{i}", 50, 10 if j < 2 else None) for i in range(20) for j in range(4)))
    apart = rows(*((f"p{i}", 50, 10 if i < 10 else None) for i in range(20) for j in range(4)))
    widths = []
    for made in (alike, apart):
        line = row(survival_table(made), token=25)
        assert line["survival"] == 0.5
        widths.append(line["survival_high"] - line["survival_low"])
    assert widths[1] > 1.8 * widths[0]


def test_intervals_cover_with_censoring():
    """Truth: an onset comes at each token with the problem's own chance; half of the completions end early."""
    rng, hits = np.random.default_rng(1), []
    chances = np.linspace(0.005, 0.035, 7)
    truth = np.mean((1 - chances) ** 20)
    for _ in range(60):
        chance = np.repeat(rng.choice(chances, 24), 4)
        onset, end = rng.geometric(chance) - 1, rng.integers(1, 80, 96)
        made = rows(
            *zip(np.repeat(np.arange(24), 4).astype(str), end, np.where(onset < end, onset, np.nan), strict=True)
        )
        lines = [line for line in survival_table(made).to_pylist() if line["token"] <= 20]
        hits.append(lines[-1]["survival_low"] <= truth <= lines[-1]["survival_high"])
    assert np.mean(hits) >= 0.88


def test_at_most_60_tokens_the_same_for_every_condition():
    parts = [graded_rows("baseline", seed=1), graded_rows("cut", onset=0.2, tokens=400, seed=2)]
    made = pd.concat(parts, ignore_index=True)
    made["onset_token"] = np.where(made["onset_strict"], 30, np.nan)
    table = survival_table(made).to_pandas()
    tokens = {name: set(part["token"]) for name, part in table.groupby("condition")}
    assert tokens["baseline"] < tokens["cut"] and len(tokens["cut"]) <= 60
    assert (table.groupby("condition")["survival"].diff().dropna() <= 0).all()
    assert ((table["survival_low"] <= table["survival"]) & (table["survival"] <= table["survival_high"])).all()


def test_no_onset_at_all_and_a_single_problem():
    table = survival_table(rows(("a", 9, None), ("b", 9, None)))
    assert set(table["survival"].to_pylist()) == {1} and min(table["survival_low"].to_pylist()) < 0.5
    assert row(survival_table(rows(("a", 9, 2), ("a", 9, None))), token=9)["survival"] == 0.5


def test_rows_that_are_not_done_are_left_out():
    made = graded_rows("baseline", onset=0.0, n_problems=3)
    assert row(survival_table(unfinished(made, [0, 1])), token=0)["at_risk"] == 10
    assert survival_table(unfinished(made, slice(None))).num_rows == 0
    assert placement_table(unfinished(made, slice(None))).num_rows == 0


def test_where_onsets_fall():
    table = placement_table(rows(("a", 10, 0), ("a", 10, 3), ("b", 100, 39), ("b", 10, 9), ("c", 10, None)))
    assert table.schema == PLACEMENT_TABLE and table.num_rows == 10
    lines = table.to_pylist()
    assert [line["onsets"] for line in lines] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 1]  # 3 of 10 falls in the bin from 0.3 on
    assert {line["of"] for line in lines} == {4}
    assert (lines[3]["start"], lines[3]["end"], lines[3]["share"]) == (0.3, 0.4, 0.5)
    assert lines[3]["share_low"] == pytest.approx(clustered_rate([0, 1, 1, 0], list("aabb"))[1])


def test_no_onset_has_no_place():
    lines = placement_table(rows(("a", 10, None))).to_pylist()
    assert [line["onsets"] for line in lines] == [0] * 10 and all(np.isnan(line["share"]) for line in lines)
