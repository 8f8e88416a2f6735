import math

import numpy as np
import pandas as pd
import pytest

from raybt.measure.statistics import clustered_rate, holm, paired_difference
from raybt.measure.study.variants import variants_table
from raybt.store.schemas.study import VARIANT_TABLE
from tests.measure.completions import graded_rows, unfinished
from tests.measure.study.made import row


def variant(name, onsets, problems="aabb"):
    frame = pd.DataFrame({"problem": list(problems), "onset_strict": [bool(one) for one in onsets]})
    frame["sample"] = frame.groupby("problem").cumcount()
    return frame.assign(stage="baseline", condition="baseline", variant=name, verdict="correct")


def table(*parts):
    return variants_table(pd.concat(parts, ignore_index=True))


def test_numbers_by_hand():
    found = table(variant("think", [1, 0, 1, 1]), variant("plain", [0, 0, 1, 0]))
    assert found.schema == VARIANT_TABLE
    think, plain = (row(found, variant=name) for name in ("think", "plain"))
    assert (think["onset_rate"], plain["onset_rate"], plain["difference"]) == (0.75, 0.25, -0.5)
    # cells (1, 0), (1, 1), (0, 0), (1, 0) have variances 1/2, 0, 0, 1/2: s^2 = 1/4, and 1/n - 1/N = 1/8
    reach = 1.959964 * math.sqrt(1 / 4 / 8)
    assert (plain["band_low"], plain["band_high"]) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert think["accuracy_all"] == 1 and (think["planned"], think["done"], think["problems"]) == (4, 4, 2)
    expected = clustered_rate([1, 0, 1, 1], list("aabb"))
    assert (think["onset_rate"], think["onset_rate_low"], think["onset_rate_high"]) == pytest.approx(expected)


def test_the_difference_is_paired_with_the_first_variant():
    parts = [
        variant(name, one, "aabbcc")
        for name, one in (("x", [1, 0, 1, 1, 1, 0]), ("y", [0, 0, 1, 0, 1, 0]), ("z", [0] * 6))
    ]
    found = table(*parts)
    lines = [row(found, variant=name) for name in "xyz"]
    assert [line["reference"] for line in lines] == ["x", "x", "x"] and math.isnan(lines[0]["difference"])
    tests = [paired_difference(parts[0]["onset_strict"], part["onset_strict"], part["problem"]) for part in parts[1:]]
    assert [line["p"] for line in lines[1:]] == pytest.approx([test[3] for test in tests])
    assert [line["p_holm"] for line in lines] == pytest.approx(holm([line["p"] for line in lines]), nan_ok=True)


def test_noise_alone_stays_in_the_band():
    """Eight variants that are one prompt: the study took the difference of such a pair for an effect (defect 4)."""
    rng, inside, problems = np.random.default_rng(0), [], np.repeat(np.arange(40), 6).astype(str)
    for _ in range(12):
        onsets = rng.random((8, 240)) < np.repeat(rng.random(40), 6)
        lines = table(*(variant(f"v{i}", onsets[i], problems) for i in range(8))).to_pylist()
        inside += [line["band_low"] <= line["onset_rate"] <= line["band_high"] for line in lines]
    assert 0.89 <= np.mean(inside) < 1


def test_a_real_difference_leaves_the_band_and_does_not_widen_it():
    same = [graded_rows("baseline", seed=i).assign(variant=f"v{i}") for i in range(2)]
    other = [same[0], graded_rows("baseline", onset=0.02, seed=1).assign(variant="v1")]
    near, far = (row(table(*parts), variant="v1") for parts in (same, other))
    assert near["band_low"] <= near["onset_rate"] <= near["band_high"]
    assert far["onset_rate"] < far["band_low"]
    assert far["band_high"] - far["band_low"] <= near["band_high"] - near["band_low"]


def test_failed_and_missing_rows_are_counted():
    lost = unfinished(unfinished(graded_rows("baseline").assign(variant="x"), [0], "out of memory"), [1])
    line = row(table(lost, graded_rows("baseline").assign(variant="y")), variant="x")
    assert (line["planned"], line["done"], line["failed"]) == (48, 46, 2)


def test_stages_that_share_a_baseline_count_it_once_and_other_conditions_never():
    base = variant("x", [1, 0, 1, 1])
    found = table(
        base, base.assign(stage="sweep"), base.assign(stage="sweep", condition="cut"), variant("y", [0, 0, 1, 0])
    )
    assert found.to_pandas().equals(table(base, variant("y", [0, 0, 1, 0])).to_pandas())


def test_where_there_is_no_band():
    (alone,) = table(variant("x", [1, 0, 1, 1])).to_pylist()
    assert math.isnan(alone["band_low"]) and alone["reference"] == "x"
    once = table(variant("x", [1, 0], "ab"), variant("y", [0, 0], "ab"))
    assert math.isnan(row(once, variant="x")["band_low"])
    none = table(unfinished(graded_rows("baseline"), slice(None)))
    assert none.to_pylist()[0]["done"] == 0
    assert variants_table(graded_rows("cut")).num_rows == 0
