import math

import pytest

from raybt.measure.study.lens import attribution_table, lens_table
from raybt.store.schemas.study import ATTRIBUTION_TABLE, LENS_TABLE
from tests.measure.study.made import lenses, plan, row

PLACES = ["attn.0", "mlp.0"]
COMPONENTS = ["embedding", *PLACES, "bias"]


def read(key, logit, rank, attribution=(0, 0, 0, 0)):
    return {
        "key": key,
        "places": PLACES,
        "logit": [logit, 10 * logit],
        "log_probability": [-logit, -1.0],
        "rank": [rank, 0],
        "components": COMPONENTS,
        "attribution": [float(one) for one in attribution],
    }


PLAN = plan(
    {"key": "a1", "problem": "a"},
    {"key": "a2", "problem": "a"},
    {"key": "b1", "problem": "b"},
    {"key": "b2", "problem": "b"},
    {"key": "lost", "problem": "b"},
    {"key": "c", "problem": "a", "role": "position"},
    {"key": "gone", "problem": "a", "role": "context"},
)
READ = lenses(
    read("b2", 6, 9),
    read("c", 0.5, 40, (1, 2, 3, 4)),
    read("a1", 1, 1),
    read("a2", 3, 2),
    read("b1", 6, 5),
    read("x", 99, 0),
)


def test_means_and_median_ranks_by_role_and_place():
    table = lens_table(PLAN, READ)
    assert table.schema == LENS_TABLE
    line = row(table, role="onset", place="attn.0")
    assert (line["planned"], line["done"], line["failed"], line["problems"]) == (5, 4, 1, 2)
    assert (line["logit"], line["log_probability"], line["rank"]) == (4, -4, 3.5)  # of 1 3 6 6; of 1 2 5 9
    assert line["logit_high"] == pytest.approx(4 + 25.412, abs=1e-3)  # two problem means, 2 and 6
    assert (line["component"], line["layer"]) == ("attn", 0)
    assert row(table, role="onset", place="mlp.0")["logit"] == 40
    assert [one["place"] for one in table.to_pylist()] == [*PLACES, *PLACES, None]


def test_a_single_problem_has_no_interval():
    line = row(lens_table(PLAN, READ), role="position", place="attn.0")
    assert (line["logit"], line["rank"], line["problems"]) == (0.5, 40, 1) and math.isnan(line["logit_low"])


def test_a_role_of_which_nothing_is_done_is_still_counted():
    line = row(lens_table(PLAN, READ), role="context")
    assert (line["place"], line["planned"], line["done"], line["failed"]) == (None, 1, 0, 1)
    assert math.isnan(line["logit"])


def test_nothing_read_at_all():
    table = lens_table(PLAN, lenses())
    assert [(one["role"], one["failed"]) for one in table.to_pylist()] == [
        ("onset", 5),
        ("position", 1),
        ("context", 1),
    ]
    assert attribution_table(PLAN, lenses()).num_rows == 0


def test_a_measurement_that_two_stages_share_counts_in_both():
    again = plan({"key": "a1", "problem": "a", "stage": "again"}, {"key": "a1", "problem": "a", "stage": "look"})
    assert [one["done"] for one in lens_table(again, READ).to_pylist()] == [1, 1, 1, 1]


def test_attribution():
    table = attribution_table(PLAN, READ)
    assert table.schema == ATTRIBUTION_TABLE
    lines = [one for one in table.to_pylist() if one["role"] == "position"]
    assert [(one["component"], one["kind"], one["layer"], one["attribution"]) for one in lines] == [
        ("embedding", "embedding", None, 1),
        ("attn.0", "attn", 0, 2),
        ("mlp.0", "mlp", 0, 3),
        ("bias", "bias", None, 4),
    ]
    assert row(table, role="onset", component="bias")["done"] == 4
