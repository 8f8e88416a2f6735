import math

import pandas as pd
import pytest

from raybt.measure.study.controls import controls_table
from raybt.store.schemas.study import CONTROL_TABLE
from tests.measure.study.made import row

SITES = {
    "late@0": ["mlp.3", "mlp.4"],
    "c0": ["mlp.3", "mlp.5"],
    "c1": ["mlp.5", "mlp.6"],
    "c2": ["mlp.3", "mlp.6"],
    "d0": ["mlp.3", "mlp.4"],
    "d1": ["mlp.3", "mlp.4"],
}
EFFECTS = {"late@0": -0.3, "c0": -0.1, "c1": 0.3, "c2": -0.05, "d0": -0.1, "d1": -0.2}


def inputs(effects=EFFECTS, variant="default"):
    role = {"l": "target", "c": "control", "d": "direction"}
    place = {"stage": "subsets", "variant": variant}
    conditions = [
        {**place, "condition": name, "role": role[name[0]], "control_of": None if name == "late@0" else "late@0"}
        for name in effects
    ]
    conditions.append({**place, "condition": "baseline", "role": "baseline", "control_of": None})
    contrasts = [
        {**place, "condition": name, "measure": measure, "difference": sign * effect}
        for name, effect in effects.items()
        for measure, sign in (("onset_rate", 1), ("accuracy_all", 0.1), ("mean_tokens", 99))
    ]
    return pd.DataFrame(conditions), pd.DataFrame(contrasts)


def test_numbers_by_hand():
    table = controls_table(*inputs(), SITES)
    assert table.schema == CONTROL_TABLE and table.num_rows == 4
    line = row(table, measure="onset_rate", against="subsets")
    assert (line["stage"], line["condition"], line["variant"]) == ("subsets", "late@0", "default")
    assert (line["controls"], line["as_extreme"]) == (3, 1)  # c1 raises by as much as the target lowers
    assert (line["effect"], line["p"], line["p_floor"]) == (-0.3, 2 / 4, 1 / 4)
    assert (line["mean"], line["lowest"], line["highest"]) == pytest.approx((0.05, -0.1, 0.3))
    assert line["overlap"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)


def test_directions_stand_apart():
    line = row(controls_table(*inputs(), SITES), measure="onset_rate", against="directions")
    assert (line["controls"], line["as_extreme"], line["p"], line["p_floor"]) == (2, 0, 1 / 3, 1 / 3)
    assert line["overlap"] == 1
    assert row(controls_table(*inputs(), SITES), measure="accuracy_all", against="directions")["effect"] == -0.03


def test_what_is_not_known_is_not_counted():
    line = row(controls_table(*inputs({**EFFECTS, "c0": math.nan}), SITES), measure="onset_rate", against="subsets")
    assert (line["controls"], line["p"], line["p_floor"]) == (2, 2 / 3, 1 / 3)
    line = row(controls_table(*inputs({**EFFECTS, "late@0": math.nan}), SITES), measure="onset_rate", against="subsets")
    assert math.isnan(line["p"]) and math.isnan(line["effect"]) and line["controls"] == 3
    only = {**EFFECTS, **dict.fromkeys(("c0", "c1", "c2"), math.nan)}
    line = row(controls_table(*inputs(only), SITES), measure="onset_rate", against="subsets")
    assert (line["controls"], line["p"], line["p_floor"]) == (0, 1, 1) and math.isnan(line["mean"])


def test_each_variant_has_its_own():
    parts = [inputs(), inputs({**EFFECTS, "late@0": -0.02}, variant="plain")]
    conditions, contrasts = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    table = controls_table(conditions, contrasts, SITES)
    assert row(table, variant="plain", measure="onset_rate", against="subsets")["p"] == 1
    assert row(table, variant="default", measure="onset_rate", against="subsets")["p"] == 0.5


def test_without_controls_there_is_no_row():
    assert controls_table(*inputs({"late@0": -0.3}), SITES).num_rows == 0
