"""Conditions of each stage."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.plan.conditions import condition_name, plan_conditions
from raybt.store.schemas import CONDITIONS
from tests.plan.models import small_config

SIX = SimpleNamespace(n_layers=6, n_heads=4)


def test_each_stage_has_its_baseline_first(tmp_path):
    table = plan_conditions(small_config(tmp_path), SIX)
    assert table["condition"].to_pylist() == ["baseline", "late@0", "late@0.5", "first@0", "first@0.5"]
    assert table["sites"].to_pylist()[:2] == [[], ["mlp.4", "mlp.5"]]
    assert table["intervention"].to_pylist()[:2] == ["[]", '[["mlp.4","scale",0.0],["mlp.5","scale",0.0]]']
    assert table.schema == CONDITIONS


def test_without_grids_there_is_the_baseline_alone(tmp_path):
    table = plan_conditions(small_config(tmp_path, interventions={}), SIX)
    assert table.select(["stage", "condition", "scale"]).to_pylist() == [
        {"stage": "baseline", "condition": "baseline", "scale": 1.0}
    ]


@settings(deadline=None, derandomize=True)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_names_tell_scales_apart(scale):
    subset, _, number = condition_name("a@b", scale).rpartition("@")
    assert subset == "a@b" and float(number) == scale


def test_names_are_short():
    assert [condition_name("a", scale) for scale in (0.0, -0.0, 0.25, 1.0, 0.1 + 0.2)] == [
        "a@0", "a@0", "a@0.25", "a@1", "a@0.30000000000000004",
    ]  # fmt: skip
