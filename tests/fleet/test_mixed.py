"""Another precision in mid-run: refused where rows are there, unless the user says that they may be mixed."""

import pytest

from raybt.errors import UserError
from raybt.fleet.opening import open_run, run_folder
from raybt.load import dump_yaml
from raybt.plan.rows import make_plan
from raybt.store.manifest import read_config_yaml, read_manifest
from tests.commands import raybt, refusal
from tests.fleet.conftest import small_config
from tests.fleet.without_ray import without_ray

HALF = {"name": "raybt-toy", "device": "cpu", "dtype": "bfloat16"}


def logged(folder) -> str:
    manifest = read_manifest(folder)
    assert manifest is not None
    return str(manifest.config_changes)


def test_a_run_without_rows_may_still_change_it(tmp_path):
    for model in ({**HALF, "dtype": "float32"}, HALF):
        plan = make_plan(small_config(tmp_path, model=model))
        folder = run_folder(plan)
        open_run(plan, folder)
    assert "'float32' -> 'bfloat16'" in logged(folder) and "side by side" not in logged(folder)


def test_beside_rows_it_is_refused_by_name_and_touches_nothing(copy, tmp_path):
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config(tmp_path, model=HALF)))
    before = {path: path.read_bytes() for path in copy.rglob("*.*") if path.is_file()}
    said = refusal(raybt("run", tmp_path / "c.yaml"))
    assert "rows in one precision" in said["rule"] and said["value"] == "model.dtype: 'float32' -> 'bfloat16'"
    assert "--set name=small-2" in said["fix"] and "--allow-mixed" in said["fix"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.usefixtures("unpublished")
def test_with_the_flag_it_is_logged_once_and_asked_for_again_on_the_way_back(copy, tmp_path):
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config(tmp_path, model=HALF)))
    for options in (["--allow-mixed"], []):  # from now on the run's precision is the new one
        with without_ray():
            assert raybt("run", tmp_path / "c.yaml", *options).code == 0
    plan = make_plan(small_config(tmp_path))
    folder = run_folder(plan)
    assert logged(folder).count("side by side") == 1 and "dtype: bfloat16" in read_config_yaml(folder)
    with pytest.raises(UserError, match="bfloat16.*float32"):
        open_run(plan, folder)
