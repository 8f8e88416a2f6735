"""The proof of an architecture is made once for what it depends on, and refuses what the run's stages will need."""

import shutil
from dataclasses import replace

import pytest

from raybt.engine.architecture import Proof
from raybt.errors import UserError
from raybt.fleet import proofs, wave
from raybt.fleet.opening import open_run, run_folder
from raybt.fleet.proofs import demand_architecture
from raybt.plan.rows import make_plan


@pytest.fixture
def job(make_config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = make_plan(make_config())
    open_run(plan, run_folder(plan))
    return wave.make_job(plan, run_folder(plan))


@pytest.fixture
def made(monkeypatch):
    """Settings of each proof that is made, in the place of making it."""
    calls = []

    def prove(path, **asked):
        calls.append(asked["dtype"])
        return Proof("qwen2", {"lens": "a scale"})

    monkeypatch.setattr("raybt.engine.load.architecture_of", prove)
    return calls


def files(tmp_path):
    return sorted((tmp_path / "cache" / "raybt" / "proofs").iterdir())


def test_it_is_made_once_for_a_config_a_type_and_the_libraries(job, made, tmp_path, monkeypatch):
    half = replace(job, model=job.model.model_copy(update={"dtype": "bfloat16"}))
    for asked in (job, job, half, half, job):
        demand_architecture(asked)
    assert made == ["float32", "bfloat16"] and len(files(tmp_path)) == 2
    monkeypatch.setattr("transformers.__version__", "99")
    demand_architecture(job)
    assert made == ["float32", "bfloat16", "float32"]


def test_a_models_own_code_is_part_of_it(job, made, tmp_path):
    folder = shutil.copytree(job.path, tmp_path / "model")
    own = replace(job, path=str(folder), model=job.model.model_copy(update={"trust_remote_code": True}))
    for code in ("x = 1", "x = 1", "x = 2"):
        (folder / "modeling_own.py").write_text(code)
        demand_architecture(own)
    assert len(made) == 2


def test_one_that_cannot_be_read_or_kept_is_made_again(job, made, tmp_path, monkeypatch):
    demand_architecture(job)
    files(tmp_path)[0].write_text("{torn")
    demand_architecture(job)
    assert made == ["float32"] * 2 and demand_architecture(job).faults == {"lens": "a scale"} and len(made) == 2
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    demand_architecture(job)
    assert len(made) == 3


def test_what_any_stage_will_measure_must_be_proved(job, made):
    demand_architecture(replace(job, measures=("decode", "scan")))
    with pytest.raises(UserError, match="lens: not supported for qwen2; got a scale. Fix: take the lens stages out"):
        demand_architecture(replace(job, measures=("decode", "lens")))


def test_the_shipped_model_is_fit_for_everything(job, tmp_path):
    assert demand_architecture(job) == Proof("qwen2", {}, "shared") == demand_architecture(job)
    assert len(files(tmp_path)) == 1 and proofs._read(files(tmp_path)[0]) == Proof("qwen2", {}, "shared")
