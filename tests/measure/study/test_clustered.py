import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raybt.measure.statistics import paired_difference
from raybt.measure.study.clustered import as_table, clustered_means, paired_rates


def random_values(seed: int, groups: int = 12) -> pd.DataFrame:
    """Groups with 1 to 6 problems and 1 to 4 values each, some without any spread."""
    rng, rows = np.random.default_rng(seed), []
    for group in range(groups):
        for problem in range(rng.integers(1, 7)):
            for _ in range(rng.integers(1, 5)):
                value = {0: 0.0, 1: 0.5}.get(group, rng.normal() + problem)
                rows.append(
                    {"a": f"g{group % 4}", "b": group // 4, "problem": f"p{problem}", "x": value, "y": -2 * value}
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=seed, ignore_index=True)


@pytest.mark.parametrize("seed", range(6))
def test_the_closed_form_equals_the_regression(seed):
    values = random_values(seed)
    means = clustered_means(values, ["a", "b"], ["x", "y"])
    assert len(means) == 12
    for line in means.to_dict("records"):
        part = values[(values["a"] == line["a"]) & (values["b"] == line["b"])]
        assert (line["done"], line["problems"]) == (len(part), part["problem"].nunique())
        for name in ("x", "y"):
            slow = paired_difference(np.zeros(len(part)), part[name].to_numpy(), part["problem"].to_numpy())
            fast = [line[f"{name}{part}"] for part in ("", "_low", "_high", "_p")]
            assert fast == pytest.approx(list(slow), nan_ok=True)


def test_by_hand():
    """Problem means 2 and 6, two values each: standard error 2, t with one degree of freedom 12.706."""
    values = pd.DataFrame({"g": "g", "problem": ["a", "a", "b", "b"], "x": [1, 3, 6, 6]})
    line = clustered_means(values, ["g"], ["x"]).iloc[0]
    assert (line["x"], line["problems"], line["done"]) == (4, 2, 4)
    assert line["x_high"] == pytest.approx(4 + 25.412, abs=1e-3)
    assert line["x_p"] == pytest.approx(0.2952, abs=1e-4)  # t = 2


def test_groups_stand_as_they_first_appear_and_nan_stays_nan():
    values = pd.DataFrame({"g": ["z", "a", "z", "a"], "problem": list("pqqp"), "x": [1, 2, np.nan, 4]})
    means = clustered_means(values, ["g"], ["x"])
    assert list(means["g"]) == ["z", "a"]
    assert np.isnan(means["x"][0]) and means["x"][1] == 3


def test_nothing_gives_nothing():
    empty = pd.DataFrame({"g": [], "problem": [], "x": []})
    assert len(clustered_means(empty, ["g"], ["x"])) == 0


def test_rates_never_differ_by_more_than_one():
    base, treated = pd.Series([1, 1, 1, 0]), pd.Series([0, 0, 0, 0])
    (difference, low, high), p = paired_rates(base, treated, pd.Series(list("abcd")))
    assert (difference, low) == (-0.75, -1) and high == pytest.approx(0.0456, abs=1e-4) and p > 0.05


def test_a_table_has_nan_for_numbers_and_null_for_the_rest():
    schema = pa.schema([("name", pa.string()), ("layer", pa.int32()), ("x", pa.float64()), ("ok", pa.bool_())])
    table = as_table(
        [{"name": None, "layer": None, "x": None, "ok": True}, {"name": "a", "layer": 2.0, "x": 1}], schema
    )
    first, second = table.to_pylist()
    assert (first["name"], first["layer"], first["ok"]) == (None, None, True) and np.isnan(first["x"])
    assert second == {"name": "a", "layer": 2, "x": 1.0, "ok": None}
    assert as_table([], schema).schema == schema
