"""Vectors in configs, conditions and keys, and what is refused."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from raybt.errors import UserError
from raybt.plan.rows import make_plan
from raybt.plan.sites import Term, canonical_terms, expand
from raybt.plan.vectors import content_hash
from tests.plan.models import small_config


def config(folder, tensors=None, **grid):
    save_file(tensors or {"mlp.2": np.ones(8, np.float32)}, folder / "v.safetensors")
    interventions = {
        "subsets": {"some": ["mlp.2"]},
        "vectors": {"mine": {"kind": "file", "path": str(folder / "v.safetensors")}},
        "grids": {"g": {"subsets": ["some"], "operation": "add", "vectors": "mine", "strengths": [2], **grid}},
    }
    return small_config(folder, interventions=interventions)


def test_a_vectors_numbers_are_in_the_key_and_its_name_and_file_are_not(tmp_path):
    plan = make_plan(config(tmp_path))
    vector = np.ones(8, np.float32)
    assert plan.conditions["condition"].to_pylist() == ["baseline", "some+add:mine@2"]
    assert plan.conditions["intervention"][1].as_py() == f'[["mlp.2","add",2.0,"{content_hash(vector)}"]]'
    assert np.array_equal(plan.bank[content_hash(vector)], vector)
    other = make_plan(config(tmp_path, {"mlp.2": 2 * vector}))
    unused = make_plan(config(tmp_path, {"mlp.2": vector, "mlp.3": vector}))
    assert set(plan.work["key"].to_pylist()) == set(unused.work["key"].to_pylist())
    shared = set(plan.work["key"].to_pylist()) & set(other.work["key"].to_pylist())
    assert len(shared) == plan.work.num_rows // 2  # the baseline's


def test_no_op_terms_are_the_baseline_and_zero_is_scale_by_zero():
    nothing = [Term("mlp.1", "add", 0, "ab"), Term("mlp.2", "mean", -0.0, "ab"), Term("attn.1", "scale", 1)]
    assert canonical_terms(nothing) == "[]"
    assert canonical_terms([Term("mlp.1", "zero", 9)]) == canonical_terms([Term("mlp.1", "scale", 0)])
    assert canonical_terms([Term("mlp.1", "clamp", 0, "ab")]) == '[["mlp.1","clamp",0.0,"ab"]]'


def test_heads_and_streams_are_sites():
    assert expand(["head.1.*", "head.0-1.2", "resid.3"], 4, 3) == (
        "resid.3", "head.0.2", "head.1.0", "head.1.1", "head.1.2",
    )  # fmt: skip
    with pytest.raises(UserError, match="heads 0 to 2"):
        expand(["head.1.3"], 4, 3)


def test_window_and_triggers_after_a_trigger_are_in_the_key(tmp_path):
    def keys(**grid):
        plain = {"operation": "zero", "vectors": None, "strengths": [], "positions": "after_trigger"}
        return set(make_plan(config(tmp_path, **plain, **grid)).work["key"].to_pylist())

    assert keys(window=[0, 4]) == keys(window=[0, 4]) != keys(window=[0, 5])


@pytest.mark.parametrize(
    ("tensors", "grid", "says"),
    [
        ({"mlp.3": np.ones(8, np.float32)}, {}, "none for mlp.2"),
        ({"mlp.2": np.ones((3, 8), np.float32)}, {}, r"shape \[3, 8\]"),
        ({"mlp.2": np.zeros(8, np.float32)}, {}, "not all zero"),
        (None, {"vectors": "mien"}, "did you mean mine"),
        (None, {"vectors": None}, "need `vectors`"),
        (None, {"strengths": [], "scales": [0.5]}, "strengths"),
        (None, {"operation": "scale", "vectors": None}, "strengths"),
        (None, {"window": [0, 4]}, "after_trigger"),
        (None, {"positions": "after_trigger", "window": [4, 4]}, "later"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tensors, grid, says):
    with pytest.raises((UserError, ValueError), match=says):
        make_plan(config(tmp_path, tensors, **grid))


def test_a_file_that_is_none_is_refused(tmp_path):
    made = config(tmp_path)
    (tmp_path / "v.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="safetensors"):
        make_plan(made)
