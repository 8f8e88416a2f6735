import pandas as pd
import pytest

from raybt.measure.tables import summarise
from tests.measure.completions import graded_rows


def collapse(baseline, part):
    table, _ = summarise(pd.concat([baseline, part], ignore_index=True))
    base, treated = table.to_pylist()
    return base, treated


@pytest.mark.parametrize(
    ("rates", "because"),
    [
        ({"correct": 0.06, "chance": 0.05}, "is not above chance, 5.0%"),
        ({"correct": 0.0, "chance": 0.02}, "accuracy 0.0%"),
        ({"correct": 0.04, "chance": 0.0}, "is not above chance, 5.0%"),  # odd answers: the baseline's chance counts
        ({"answer": 0.3, "correct": 1.0}, "under half of the baseline's 100.0%"),
        ({"truncated": 0.7, "correct": 1.0}, "under half"),
        ({"repetition": 0.5}, "100.0% of completions are more repetitive"),
    ],
)
def test_each_way_to_collapse_says_why(rates, because):
    base, treated = collapse(graded_rows("baseline"), graded_rows("cut", seed=1, **rates))
    assert treated["collapsed"] and treated["finding"] == "collapsed"
    assert because in treated["collapsed_because"]
    assert not base["collapsed"] and base["collapsed_because"] == ""


def test_a_worse_model_is_not_a_broken_one():
    _, treated = collapse(graded_rows("baseline"), graded_rows("cut", correct=0.4, answer=0.7, seed=1))
    assert not treated["collapsed"] and treated["collapsed_because"] == ""


def test_all_reasons_are_named():
    _, treated = collapse(graded_rows("baseline"), graded_rows("cut", seed=1, correct=0, answer=0.1, repetition=0.5))
    assert treated["collapsed_because"].count(";") == 2


def test_a_baseline_at_chance_is_said_and_accuracy_is_no_criterion():
    base, treated = collapse(graded_rows("baseline", correct=0.05), graded_rows("cut", correct=0.05, seed=1))
    assert not base["collapsed"] and not treated["collapsed"]
    for row in (base, treated):
        assert "baseline accuracy is not above chance" in row["collapsed_because"]


def test_a_baseline_at_chance_still_has_the_other_criteria():
    _, treated = collapse(graded_rows("baseline", correct=0.05), graded_rows("cut", repetition=0.5, seed=1))
    assert treated["collapsed"] and "repetitive" in treated["collapsed_because"]


def test_the_baseline_is_as_repetitive_as_its_own_percentile_allows():
    base, _ = collapse(graded_rows("baseline", n_problems=50), graded_rows("cut", n_problems=50))
    assert base["repetitive_rate"] == pytest.approx(0.01, abs=0.006)
