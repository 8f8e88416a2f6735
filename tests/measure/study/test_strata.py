import math

import pandas as pd
import pytest

from raybt.measure.statistics import clustered_rate
from raybt.measure.study.strata import strata_table
from raybt.store.schemas.study import STRATA_TABLE
from tests.measure.completions import graded_rows, unfinished
from tests.measure.study.made import row

# problem, onset, verdict
SAID = [
    ("a", True, "correct"), ("a", True, "wrong"), ("a", False, "correct"),
    ("b", True, "wrong"), ("b", False, "truncated"), ("b", False, "correct"),
    ("c", False, "correct"), ("c", False, "wrong"),
    ("d", True, "unparseable"),
]  # fmt: skip


def rows():
    frame = pd.DataFrame(SAID, columns=["problem", "onset_strict", "verdict"])
    return frame.assign(
        stage="grid", condition="baseline", variant="default", sample=frame.groupby("problem").cumcount()
    )


def found(stratum, basis):
    return row(strata_table(rows()), stratum=stratum, basis=basis)


@pytest.mark.parametrize(
    ("stratum", "basis", "done", "problems", "accuracy"),
    [
        ("with", "all", 4, 3, 1 / 4),
        ("without", "all", 5, 3, 3 / 5),
        ("with", "answered", 3, 2, 1 / 3),
        ("without", "answered", 4, 3, 3 / 4),
        ("with", "by problem", 3, 2, (1 / 2 + 0) / 2),  # a and b have both strata
        ("without", "by problem", 3, 2, (1 + 1 / 2) / 2),
        ("difference", "by problem", 6, 2, -1 / 2),
    ],
)
def test_numbers_by_hand(stratum, basis, done, problems, accuracy):
    line = found(stratum, basis)
    assert (line["done"], line["problems"]) == (done, problems)
    assert line["accuracy"] == pytest.approx(accuracy)


def test_intervals():
    assert strata_table(rows()).schema == STRATA_TABLE and strata_table(rows()).num_rows == 7
    line = found("without", "all")
    expected = clustered_rate([1, 0, 1, 1, 0], list("abbcc"))
    assert (line["accuracy"], line["accuracy_low"], line["accuracy_high"]) == pytest.approx(expected)
    line = found("with", "by problem")
    assert (line["accuracy_low"], line["accuracy_high"]) == (0, 1)  # of two problems, 1/2 and 0
    assert math.isnan(found("difference", "by problem")["accuracy_low"])  # -1/2 in both: no spread to estimate


def test_harder_problems_backtrack_more_and_that_is_no_effect():
    """Onsets change nothing here; half of the problems are hard, and have more of them."""
    easy = graded_rows("baseline", n_problems=40, samples=8, onset=0.2, correct=0.9, seed=1)
    hard = graded_rows("baseline", n_problems=40, samples=8, onset=0.8, correct=0.2, seed=2)
    both = pd.concat([easy, hard.assign(problem="hard " + hard["problem"])], ignore_index=True)
    table = strata_table(both)
    with_, without = (row(table, stratum=name, basis="all") for name in ("with", "without"))
    assert with_["accuracy_high"] < without["accuracy_low"]
    difference = row(table, stratum="difference", basis="by problem")
    assert difference["accuracy_low"] < 0 < difference["accuracy_high"]
    assert abs(difference["accuracy"]) < (without["accuracy"] - with_["accuracy"]) / 4


def test_rows_that_are_not_done_are_left_out():
    some = unfinished(graded_rows("baseline", n_problems=4), [0, 1], "out of memory")
    table = strata_table(some)
    assert sum(row(table, stratum=name, basis="all")["done"] for name in ("with", "without")) == 14
    assert strata_table(unfinished(some, slice(None))).num_rows == 0


def test_a_condition_without_onsets():
    table = strata_table(graded_rows("baseline", onset=0.0))
    line = row(table, stratum="with", basis="all")
    assert line["done"] == 0 and math.isnan(line["accuracy"])
    assert math.isnan(row(table, stratum="difference", basis="by problem")["accuracy"])
