import numpy as np
import pandas as pd
import pytest

from raybt.measure.statistics import holm, paired_difference
from raybt.measure.tables import summarise
from raybt.store.schemas import CONDITION_TABLE, CONTRAST_TABLE
from tests.measure.completions import graded_rows, unfinished


def tables(*parts):
    conditions, contrasts = summarise(pd.concat(parts, ignore_index=True))
    assert (conditions.schema, contrasts.schema) == (CONDITION_TABLE, CONTRAST_TABLE)
    return {row["condition"]: row for row in conditions.to_pylist()}, contrasts.to_pylist()


def contrast(contrasts, condition, measure="onset_rate"):
    (row,) = [row for row in contrasts if row["condition"] == condition and row["measure"] == measure]
    return row


def test_counts_and_rates_add_up():
    part = graded_rows("cut", correct=0.6, answer=0.8, truncated=0.2, seed=1)
    conditions, _ = tables(graded_rows("baseline"), part)
    row, verdicts = conditions["cut"], part["verdict"].value_counts()
    assert (row["planned"], row["done"], row["failed"], row["missing"], row["problems"]) == (48, 48, 0, 0, 12)
    assert all(row[name] == verdicts[name] for name in ("correct", "wrong", "unparseable", "truncated"))
    answered = row["correct"] + row["wrong"]
    assert row["accuracy_all"] == row["correct"] / 48  # both accuracies stand in the table
    assert row["accuracy_answered"] == row["correct"] / answered
    assert row["answerable_rate"] == answered / 48
    assert row["truncated_rate"] == row["truncated"] / 48
    assert row["onset_rate"] == row["onsets"] / 48
    assert row["mean_tokens"] == part["n_tokens"].mean()
    for stem in ("onset_rate", "relaxed_rate", "accuracy_all", "accuracy_answered"):
        bounds = [row[f"{stem}{part}"] for part in ("_low", "_wilson_low", "", "_wilson_high", "_high")]
        assert bounds == sorted(bounds)


def test_failed_and_missing_rows_are_counted_and_cost_pairs():
    cut = unfinished(unfinished(graded_rows("cut", seed=1), [0, 1, 2], "out of memory"), [3, 4])
    cut.loc[[3, 4], "error"] = None
    conditions, contrasts = tables(graded_rows("baseline"), cut)
    row = conditions["cut"]
    assert (row["planned"], row["done"], row["failed"], row["missing"]) == (48, 43, 3, 2)
    pair = contrast(contrasts, "cut")
    assert (pair["pairs"], pair["pairs_lost"], pair["problems"]) == (43, 5, 11)


def test_a_row_that_failed_and_then_came_is_done():
    cut = graded_rows("cut", seed=1)
    cut["error"] = "first try"
    assert tables(graded_rows("baseline"), cut)[0]["cut"]["failed"] == 0


def test_a_contrast_is_the_paired_difference_over_shared_rows():
    baseline, cut = graded_rows("baseline", seed=1), graded_rows("cut", onset=0.1, seed=2)
    shuffled = cut.sample(frac=1, random_state=0)  # joined by problem and sample, never by place
    _, contrasts = tables(baseline, shuffled)
    row = contrast(contrasts, "cut")
    expected = paired_difference(baseline["onset_strict"], cut["onset_strict"], baseline["problem"])  # pyright: ignore
    assert (row["difference"], row["low"], row["high"], row["p"]) == pytest.approx(expected)
    assert row["baseline"] == baseline["onset_strict"].mean() and row["treated"] == cut["onset_strict"].mean()
    assert not row["mixed_numerics"]


def test_holm_runs_within_a_measure_over_the_conditions():
    parts = [graded_rows(f"c{i}", onset=0.5 - 0.1 * i, seed=i) for i in range(4)]
    _, contrasts = tables(graded_rows("baseline", seed=9), *parts)
    for measure in ("onset_rate", "relaxed_rate", "accuracy_all", "mean_tokens"):
        family = [row for row in contrasts if row["measure"] == measure]
        assert len(family) == 4
        assert [row["p_holm"] for row in family] == pytest.approx(holm([row["p"] for row in family]))


def test_controls_are_no_part_of_the_family_and_make_no_claim():
    """20 controls beside a target would cost it a factor of 20."""
    targets = [graded_rows(f"c{i}", onset=0.2 + 0.1 * i, seed=i) for i in range(2)]
    drawn = [
        graded_rows(f"c0~{role}", onset=0.0, seed=5).assign(role=role, control_of="c0")
        for role in ("control", "direction")
    ]
    conditions, contrasts = tables(graded_rows("baseline", seed=9), *targets, *drawn)
    for measure in ("onset_rate", "relaxed_rate", "accuracy_all", "mean_tokens"):
        family = [contrast(contrasts, name, measure) for name in ("c0", "c1")]
        assert [row["p_holm"] for row in family] == pytest.approx(holm([row["p"] for row in family]))
        for role in ("control", "direction"):
            row = contrast(contrasts, f"c0~{role}", measure)
            assert np.isnan(row["p_holm"]) and row["p"] <= 1
    for role in ("control", "direction"):
        row = conditions[f"c0~{role}"]
        assert (row["role"], row["control_of"], row["finding"]) == (role, "c0", "control")
    assert [conditions[name]["role"] for name in ("baseline", "c0")] == ["baseline", "target"]
    assert conditions["c0"]["control_of"] is None


def test_findings():
    baseline = graded_rows("baseline", onset=0.5, seed=0)
    conditions, _ = tables(
        graded_rows("less", onset=0.02, seed=1),
        baseline,
        graded_rows("more", onset=0.98, seed=2),
        baseline.assign(condition="same"),
        graded_rows("broken", onset=0.0, correct=0.03, seed=3),
        unfinished(graded_rows("empty"), slice(None)),
        graded_rows("tiny", n_problems=1),
    )
    assert list(conditions) == ["baseline", "less", "more", "same", "broken", "empty", "tiny"]
    findings = {name: row["finding"] for name, row in conditions.items()}
    assert findings == {
        "baseline": "baseline",
        "less": "lowers",
        "more": "raises",
        "same": "no evidence",
        "broken": "collapsed",  # defect 6: no claim about onsets on a model that no longer works
        "empty": "incomplete",
        "tiny": "incomplete",
    }


def test_nothing_done_gives_nan_and_no_crash():
    empty = unfinished(graded_rows("empty"), slice(None))
    conditions, contrasts = tables(graded_rows("baseline"), empty)
    assert conditions["empty"]["done"] == 0 and np.isnan(conditions["empty"]["onset_rate"])
    assert np.isnan(contrast(contrasts, "empty")["p_holm"]) and contrast(contrasts, "empty")["pairs_lost"] == 48
    conditions, _ = tables(unfinished(graded_rows("baseline"), slice(None)), graded_rows("cut"))
    assert conditions["cut"]["finding"] == "incomplete" and not conditions["cut"]["collapsed"]
    assert conditions["baseline"]["numerics"] is None


def test_conditions_that_share_rows_do_not_differ():
    """Scale 1.0 points at the baseline's own keys."""
    baseline = graded_rows("baseline")
    _, contrasts = tables(baseline, baseline.assign(condition="scale1", scale=1.0))
    assert all((row["difference"], row["p"]) == (0, 1) for row in contrasts)


def test_mixed_numerics_are_marked():
    conditions, contrasts = tables(graded_rows("baseline"), graded_rows("cut").assign(numerics="cuda"))
    assert all(row["mixed_numerics"] for row in contrasts)
    assert conditions["cut"]["numerics"] == "cuda"


def test_a_nullable_identity_stays_null():
    row = tables(graded_rows("baseline"), graded_rows("cut"))[0]["baseline"]
    assert (row["subset"], row["scale"], row["positions"], row["n_sites"]) == (None, None, None, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.concat([graded_rows("baseline"), graded_rows("baseline").assign(stage="other")]), "one stage"),
        (pd.concat([graded_rows("baseline"), graded_rows("baseline").assign(variant="other")]), "one variant"),
        (graded_rows("cut"), "baseline"),
        (pd.concat([graded_rows("baseline"), graded_rows("baseline")]), "twice"),
    ],
)
def test_what_is_no_family_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        summarise(rows)


def test_two_rates_never_differ_by_more_than_one():
    _, contrasts = tables(graded_rows("baseline", onset=0.97), graded_rows("cut", onset=0.03, seed=1))
    row = contrast(contrasts, "cut")
    assert -1.0 <= row["low"] <= row["difference"] <= row["high"]
    assert row["low"] == -1.0  # the t interval alone would reach below
