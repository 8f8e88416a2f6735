"""Config files, overrides, and the way back to YAML."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from raybt.config import Measured, Scan, Triggers, found_in
from raybt.errors import UserError
from raybt.load import absolute, dump_yaml, load_config, schema_json
from raybt.plan.conditions import plan_conditions

CONFIGS = Path(__file__).parents[1] / "configs"
QWEN, TOY = SimpleNamespace(n_layers=28, n_heads=12), SimpleNamespace(n_layers=6, n_heads=4)
MINIMAL = "name: small\nmodel: {name: raybt-toy}\nproblems: {name: raybt-toy}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL)
    return path


def test_overrides_replace_add_and_are_yaml(file):
    config = load_config(
        file,
        [
            "seed=3",
            "sampling.greedy=true",
            "prompt.system=",
            "problems.limit=5",
            "interventions.subsets.a=[mlp.1, attn.2]",
        ],
    )
    assert (config.seed, config.sampling.greedy, config.prompt.system, config.problems.limit) == (3, True, None, 5)
    assert config.interventions.subsets == {"a": ("mlp.1", "attn.2")}


def test_a_value_may_hold_an_equals_sign(file):
    assert load_config(file, ["prompt.template=a=b {question}"]).prompt.template == "a=b {question}"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "a.b=value"),
        ("=3", "a.b=value"),
        ("model..name=3", "a.b=value"),
        ("name.x=3", "name is no section"),
        ("seed={", "valid YAML"),
        ("sampling.sampels=3", "did you mean samples?"),
    ],
)
def test_bad_overrides_are_refused(file, override, says):
    with pytest.raises(UserError) as error:
        load_config(file, [override])
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty file"),
        ("# nothing\n", "empty file"),
        ("- a\n- b\n", "mapping"),
        ("name: [\n", "line 2"),
        ("name: a\n\tmodel: b\n", "line 2"),
        (MINIMAL + "name: other\n", "'name' again at line 4"),
        (MINIMAL + "sampling: {samples: 2, samples: 3}\n", "'samples' again"),
        ("name: !!python/object:os.system x\n", "YAML"),
    ],
)
def test_bad_files_are_refused(file, text, says):
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(file)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe\x00")])
def test_what_is_no_text_file_is_refused(tmp_path, make):
    make(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"x\.yaml"):
        load_config(tmp_path / "x.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_dumped_configs_load_as_themselves(path, tmp_path):
    config = load_config(path)
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_awkward_text_survives_the_dump(file, tmp_path):
    awkward = 'tab\t {question} \n\n  indented: "yes" # no\ntrailing  \n'
    config = load_config(file, ["seed=3"])
    config = config.model_copy(update={"prompt": config.prompt.model_copy(update={"template": awkward})})
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_absolute_paths_mean_the_same_elsewhere(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "p.jsonl").write_text("")
    config = absolute(load_config(file, ["model.name=m", "problems.name=./p.jsonl"]))
    assert config.model.name == str(tmp_path / "m") and config.problems.name == str(tmp_path / "p.jsonl")
    assert config.artifacts == os.path.join(tmp_path, "artifacts")


def test_names_that_are_no_local_paths_stay(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raybt-toy").mkdir()
    overrides = ["problems.name=openai/gsm8k", "artifacts=s3://bucket/runs"]
    config = load_config(file, overrides)
    assert absolute(config) == config


def test_the_schema_knows_every_section():
    schema = json.loads(schema_json())
    assert set(schema["properties"]) >= {"name", "model", "problems", "prompt", "sampling", "interventions", "replicas"}
    assert "description" in schema["$defs"]["Sampling"]["properties"]["samples"]


def test_the_literal_phase_2_is_the_studys():
    """Its sweeps, prompt and length: ten conditions that are told apart, of twelve with both baselines."""
    literal = load_config(CONFIGS / "phase2_literal.yaml")
    assert literal.triggers == Triggers() and literal.sampling.max_new_tokens == 512 and not literal.prompt.uses_chat
    conditions = plan_conditions(literal, QWEN)
    assert conditions.num_rows == 12 and len(set(conditions["intervention"].to_pylist())) == 10


def test_phase_2_has_the_studys_subsets_and_scales():
    literal, full = (load_config(CONFIGS / name).interventions for name in ("phase2_literal.yaml", "phase2.yaml"))
    assert literal.subsets.items() <= full.subsets.items()
    for stage, grid in literal.grids.items():
        assert (grid.subsets, grid.scales) == (full.grids[stage].subsets, full.grids[stage].scales)


def test_both_phases_ask_alike():
    """The study's second phase lost the system prompt that its first had, and neither used the chat template."""
    first, second = (load_config(CONFIGS / name) for name in ("phase1.yaml", "phase2.yaml"))
    assert first.triggers == second.triggers == Triggers()
    assert second.prompt.variants.items() <= first.prompt.variants.items() and second.prompt.uses_chat
    for field in ("system", "template", "chat"):
        assert getattr(first.prompt, field) == getattr(second.prompt, field) is not None
    for phase in (first, second):
        measured = [stage for stage in phase.stages.values() if isinstance(stage, Measured)]
        assert {stage.variant or next(iter(phase.prompt.variants)) for stage in measured} == {"think_newline"}


@pytest.mark.parametrize("phase", ["phase1", "phase2"])
def test_a_toy_phase_has_the_stages_of_the_full_one(phase):
    full, toy = (load_config(CONFIGS / f"{phase}{suffix}.yaml") for suffix in ("", "_toy"))
    assert toy.model.name == toy.problems.name == "raybt-toy"
    assert {name: stage.kind for name, stage in full.stages.items()} == (
        {name: stage.kind for name, stage in toy.stages.items()}
    )
    assert list(full.interventions.grids) == list(toy.interventions.grids)
    for name, grid in full.interventions.grids.items():
        other = toy.interventions.grids[name]
        assert (grid.controls, grid.directions, grid.problems) == (other.controls, other.directions, other.problems)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("phase*.yaml")), ids=lambda path: path.stem)
def test_what_a_scan_chose_is_tested_on_the_other_half(path):
    config = load_config(path)
    scans = {name for name, stage in config.stages.items() if isinstance(stage, Scan)}
    assert all(config.stages[name].problems == "select" for name in scans)
    for grid in config.interventions.grids.values():
        found = any(found_in(config.interventions.subsets[name]) for name in grid.subsets)
        assert not found or grid.problems == "confirm"


def test_the_demo_has_at_least_eight_conditions_on_the_shipped_model():
    demo = load_config(CONFIGS / "demo.yaml")
    interventions = set(plan_conditions(demo, TOY)["intervention"].to_pylist()) - {"[]"}
    assert len(interventions) >= 8 and demo.problems.limit == 24 and demo.sampling.samples == 4
