import math

import pytest

from raybt.measure.statistics import holm, paired_difference
from raybt.measure.study.steps import steps_table, words_table
from raybt.store.schemas.study import STEP_TABLE, WORD_TABLE
from tests.measure.study.made import effect, plan, row, scans

LATE, EARLY = '[["mlp.3","scale",0.0]]', '[["mlp.0","scale",0.0]]'
CONDITIONS = {"baseline": "[]", "late@0": LATE, "early@0": EARLY}
BEFORE = {"e0": 0.5, "e1": 0.4, "e2": 0.3}
LATE_MASS = {"e0": 0.1, "e1": 0.2, "e2": 0.2}


def planned(keys=("e0", "e1", "e2", "lost")):
    problems = dict(zip(("e0", "e1", "e2", "lost"), "aabc", strict=True))
    return plan(*(
        {"key": key, "problem": problems[key], "condition": name, "intervention": text}
        for key in keys
        for name, text in CONDITIONS.items()
    ))  # fmt: skip


def done():
    return scans(*(
        {
            "key": key,
            "target_log_probability": math.log(0.25),
            "trigger_mass": mass,
            "floor_mass": mass / 100,
            "words": [0.1, 0.2],
            "effects": [
                effect("[]", mass, words=[0.1, 0.2]),
                effect(EARLY, mass - 0.01, words=[0.1, 0.2]),
                effect(LATE, LATE_MASS[key], math.log(0.2), kl=0.3, words=[0.3, 0.2]),
            ],
        }
        for key, mass in BEFORE.items()
    ))  # fmt: skip


def test_numbers_by_hand():
    table = steps_table(planned(), done())
    assert table.schema == STEP_TABLE
    assert [one["condition"] for one in table.to_pylist()] == list(CONDITIONS)
    line = row(table, condition="late@0")
    assert line["intervention"] == LATE
    assert (line["planned"], line["done"], line["failed"], line["problems"]) == (4, 3, 1, 2)
    assert (line["target_probability_baseline"], line["target_probability"]) == pytest.approx((0.25, 0.05))
    assert (line["trigger_mass_baseline"], line["trigger_mass"]) == pytest.approx((0.4, 0.5 / 3))
    assert line["target_change"] == pytest.approx(math.log(0.2))
    assert (line["kl"], line["floor"]) == pytest.approx((0.3, 0.005))
    slow = paired_difference(list(BEFORE.values()), list(LATE_MASS.values()), ["a", "a", "b"])
    names = ("trigger_change", "trigger_change_low", "trigger_change_high", "p")
    assert [line[name] for name in names] == pytest.approx(slow)


def test_the_baseline_changes_nothing_and_is_no_test():
    table = steps_table(planned(), done())
    line = row(table, condition="baseline")
    assert (line["target_change"], line["trigger_change"], line["kl"]) == (0, 0, 0)
    assert math.isnan(line["p"]) and math.isnan(line["p_holm"])
    family = [row(table, condition=name) for name in ("late@0", "early@0")]
    assert [one["p_holm"] for one in family] == pytest.approx(holm([one["p"] for one in family]))


def test_a_condition_that_was_not_measured_is_counted():
    other = plan({"key": "e0", "problem": "a", "condition": "late@0.5", "intervention": '[["mlp.3","scale",0.5]]'})
    for results in (done(), scans()):
        (line,) = steps_table(other, results).to_pylist()
        assert (line["planned"], line["done"], line["failed"]) == (1, 0, 1) and math.isnan(line["trigger_mass"])
    assert words_table(other, scans(), ["But"]).num_rows == 0


def test_where_the_mass_goes():
    table = words_table(planned(), done(), ["But", "Hmm"])
    assert table.schema == WORD_TABLE
    late = [one for one in table.to_pylist() if one["condition"] == "late@0"]
    assert [one["word"] for one in late] == ["But", "Hmm", "(trigger set)", "(everything else)"]
    assert [one["mass_baseline"] for one in late] == pytest.approx([0.1, 0.2, 0.4, 0.3])
    assert [one["mass"] for one in late] == pytest.approx([0.3, 0.2, 0.5 / 3, 1 / 3])
    assert [one["change"] for one in late] == pytest.approx([0.2, 0, 0.5 / 3 - 0.4, 1 / 3 - 0.3])
    assert {(one["done"], one["problems"]) for one in late} == {(3, 2)}
    assert sum(one["change"] for one in late) == pytest.approx(0)
    trigger = row(table, condition="late@0", word="(trigger set)")
    step = row(steps_table(planned(), done()), condition="late@0")
    assert [trigger[f"change{part}"] for part in ("", "_low", "_high")] == pytest.approx(
        [step[f"trigger_change{part}"] for part in ("", "_low", "_high")]
    )


def test_no_words_are_watched():
    rows = scans({"key": "e0", "effects": [effect(LATE, 0.2)]})
    late = plan({"key": "e0", "problem": "a", "condition": "late@0", "intervention": LATE})
    assert [one["word"] for one in words_table(late, rows, []).to_pylist()] == ["(trigger set)", "(everything else)"]


def test_conditions_that_mean_the_same_count_once():
    """Scale 1 is the baseline, so its effect was asked for twice at the event's one key."""
    rows = scans({"key": "e0", "effects": [effect("[]"), effect("[]"), effect(LATE, 0.2)]})
    named = {"key": "e0", "problem": "a", "intervention": "[]"}
    same = plan({**named, "condition": "baseline"}, {**named, "condition": "late@1"})
    assert [(one["planned"], one["done"], one["failed"]) for one in steps_table(same, rows).to_pylist()] == [
        (1, 1, 0)
    ] * 2
    assert {one["done"] for one in words_table(same, rows, []).to_pylist()} == {1}
