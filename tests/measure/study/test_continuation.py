import math

import pandas as pd
import pytest

from raybt.measure.statistics import clustered_rate, paired_difference
from raybt.measure.study.continuation import continuations_table
from raybt.store.schemas.study import CONTINUATION_TABLE
from tests.measure.study.made import plan, row

EVENTS = {"e0": "a", "e1": "a", "e2": "b"}
# (condition, event) -> for each of two draws: first token, token of a strict trigger or None
SAID = {
    ("baseline", "e0"): [(7, 0), (7, 0)],
    ("baseline", "e1"): [(7, 0), (5, 3)],
    ("baseline", "e2"): [(6, 0), (5, None)],
    ("late@0", "e0"): [(5, None), (5, 9)],
    ("late@0", "e1"): [(5, None), (5, None)],
    ("late@0", "e2"): [(7, 0), None],  # None: failed
}


def cases():
    for (condition, event), draws in SAID.items():
        for draw, said in enumerate(draws):
            key = f"{condition}/{event}/{draw}"
            yield {"key": key, "condition": condition, "event": event, "problem": EVENTS[event], "draw": draw}, said


def inputs():
    planned = plan(*(given for given, _ in cases()))
    done = [(given["key"], said) for given, said in cases() if said is not None]
    grades = pd.DataFrame([
        {"key": key, "onset_strict": at is not None, "first_token": first} for key, (first, at) in done
    ])  # fmt: skip
    events = [{"key": key, "tier": "strict", "token": at} for key, (_, at) in done if at is not None]
    watched = [{"key": key, "tier": "alternative", "token": 0} for key, _ in done]
    return planned, grades, pd.DataFrame(events + watched)


def test_numbers_by_hand():
    table = continuations_table(*inputs())
    assert table.schema == CONTINUATION_TABLE
    base, late = row(table, condition="baseline"), row(table, condition="late@0")
    assert [base[name] for name in ("events", "planned", "done", "failed", "problems")] == [3, 6, 6, 0, 2]
    assert [late[name] for name in ("events", "planned", "done", "failed", "problems")] == [3, 6, 5, 1, 2]
    assert (base["same_token"], base["at_once"], base["backtracks"]) == pytest.approx((3 / 6, 4 / 6, 5 / 6))
    assert (late["same_token"], late["at_once"], late["backtracks"]) == pytest.approx((1 / 5, 1 / 5, 2 / 5))
    expected = clustered_rate([1, 1, 1, 1, 1, 0], list("aaaabb"))
    assert [base[f"backtracks{part}"] for part in ("", "_low", "_high")] == pytest.approx(expected)


def test_the_difference_is_paired_by_event_and_draw():
    line = row(continuations_table(*inputs()), condition="late@0")
    difference, low, high, p = paired_difference([1, 1, 1, 1, 1], [0, 1, 0, 0, 1], list("aaaab"))
    assert line["difference"] == pytest.approx(difference) == pytest.approx(-0.6)
    assert (line["difference_low"], line["difference_high"]) == pytest.approx((max(low, -1), min(high, 1)))
    assert (line["p"], line["p_holm"]) == pytest.approx((p, p))  # the baseline is no member of the family


def test_the_baseline_has_no_difference():
    line = row(continuations_table(*inputs()), condition="baseline")
    assert all(math.isnan(line[name]) for name in ("difference", "difference_low", "p", "p_holm"))


def test_the_order_of_rows_changes_nothing():
    planned, grades, events = inputs()
    straight = continuations_table(planned, grades, events)
    turned = continuations_table(planned, grades.iloc[::-1], events.sample(frac=1, random_state=0))
    assert straight.to_pandas().equals(turned.to_pandas())


def test_nothing_done_is_counted():
    planned, grades, events = inputs()
    table = continuations_table(planned, grades.head(0), events.head(0))
    assert [(one["done"], one["failed"]) for one in table.to_pylist()] == [(0, 6), (0, 6)]
    assert math.isnan(row(table, condition="late@0")["difference"])
    assert continuations_table(planned.head(0), grades, events).num_rows == 0
