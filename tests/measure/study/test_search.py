import math

import pandas as pd
import pytest

from raybt.measure.study.search import candidates, search_table
from raybt.measure.tables import summarise
from raybt.store.schemas.study import SEARCH_TABLE
from tests.measure.completions import graded_rows, unfinished
from tests.measure.study.made import row


def measured(*parts):
    conditions, contrasts = summarise(pd.concat(parts, ignore_index=True))
    return candidates(conditions.to_pandas(), contrasts.to_pandas()), contrasts


def exactly(condition, onsets, verdicts=("correct",) * 8):
    """Eight rows, two of each of four problems."""
    made = graded_rows(condition, n_problems=4, samples=2)
    return made.assign(onset_strict=[bool(one) for one in onsets], onset_relaxed=True, verdict=list(verdicts))


BASE = exactly("baseline", [1, 1, 1, 0, 1, 0, 0, 0], ["correct"] * 6 + ["wrong"] * 2)
CUT = exactly("cut", [1, 0, 0, 0, 0, 0, 0, 0], ["correct"] * 5 + ["wrong"] * 3)


def test_numbers_by_hand():
    found, contrasts = measured(BASE, CUT)
    (line,) = found.to_dict("records")
    assert [line[name] for name in ("stage", "condition", "subset", "scale", "n_sites")] == ["grid", "cut", "cut", 0, 2]
    assert (line["problems"], line["pairs"], line["pairs_lost"]) == (4, 8, 0)
    assert (line["onset_rate_baseline"], line["onset_rate"], line["reduction"]) == (0.5, 0.125, 0.75)
    assert (line["accuracy_baseline"], line["accuracy"], line["accuracy_difference"]) == (0.75, 0.625, -0.125)
    onset = row(contrasts, condition="cut", measure="onset_rate")
    assert line["onset_difference_low"] == pytest.approx(onset["low"], nan_ok=True)
    assert line["onset_difference_high"] == pytest.approx(onset["high"], nan_ok=True)


def test_rates_are_over_pairs_and_lost_pairs_are_counted():
    found, _ = measured(BASE, unfinished(CUT, [0, 1]))
    (line,) = found.to_dict("records")
    assert (line["pairs"], line["pairs_lost"], line["problems"]) == (6, 2, 3)
    assert (line["onset_rate_baseline"], line["reduction"]) == (pytest.approx(2 / 6), 1)


def test_a_baseline_without_onsets_has_nothing_to_reduce():
    found, _ = measured(exactly("baseline", [0] * 8), CUT)
    assert math.isnan(found["reduction"][0])


def test_the_table():
    found, _ = measured(BASE, CUT, exactly("worse", [1] * 8, ["unparseable"] * 8))
    judged = found.assign(phase="select", rung=1, within=[True, False], on_front=[True, False], verdict=["good", "bad"])
    confirmed = judged.head(1).assign(phase="confirm", rung=2)
    table = search_table(pd.concat([judged, confirmed], ignore_index=True))
    assert table.schema == SEARCH_TABLE
    lines = table.to_pylist()
    assert [(one["phase"], one["rung"], one["condition"]) for one in lines] == [
        ("select", 1, "cut"),
        ("select", 1, "worse"),
        ("confirm", 2, "cut"),
    ]
    assert [(one["within"], one["on_front"], one["verdict"], one["collapsed"]) for one in lines[:2]] == [
        (True, True, "good", False),
        (False, False, "bad", True),
    ]
    assert search_table(judged.head(0)).schema == SEARCH_TABLE
