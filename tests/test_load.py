"""Config files, overrides, and the way back to YAML."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from raybt.config import Triggers
from raybt.errors import UserError
from raybt.load import absolute, dump_yaml, load_config, schema_json
from raybt.plan.conditions import plan_conditions

CONFIGS = Path(__file__).parents[1] / "configs"
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


def test_phase_2_is_the_study():
    plain, chat = (load_config(CONFIGS / name) for name in ("phase2.yaml", "phase2_chat.yaml"))
    assert plain.triggers == chat.triggers == Triggers()
    assert plain.interventions == chat.interventions and plain.prompt.template == chat.prompt.template
    assert (plain.sampling.max_new_tokens, chat.sampling.max_new_tokens) == (512, 4096)
    conditions = plan_conditions(plain, SimpleNamespace(n_layers=28, n_heads=12))
    assert conditions.num_rows == 12 and len(set(conditions["intervention"].to_pylist())) == 10


def test_the_demo_has_at_least_eight_conditions_on_the_shipped_model():
    demo = load_config(CONFIGS / "demo.yaml")
    interventions = set(plan_conditions(demo, SimpleNamespace(n_layers=6, n_heads=4))["intervention"].to_pylist()) - {
        "[]"
    }
    assert len(interventions) >= 8 and demo.problems.limit == 24 and demo.sampling.samples == 4
