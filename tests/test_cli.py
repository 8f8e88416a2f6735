"""The command line: help, schema, completion, planning without heavy libraries, and the doctor."""

import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path

import jsonschema
import pytest
import yaml

from raybt import cli, doctor
from raybt.fleet.opening import open_run, run_folder
from raybt.load import load_config
from raybt.plan.rows import make_plan
from raybt.toy.problems import take, write_jsonl
from tests.commands import BROUGHT, raybt, raybt_alone

CONFIGS = Path(__file__).parents[1] / "configs"
DEMO = CONFIGS / "demo.yaml"
LOADED = "print('loaded', *{name.partition('.')[0] for name in sys.modules} & {'torch', 'ray'})"
PLANNED = " ".join(["loaded", *BROUGHT])
COMMANDS = {
    "run": "raybt run configs/demo.yaml",
    "plan": "raybt plan configs/phase2.yaml",
    "vectors": "raybt vectors configs/steering.yaml",
    "status": "raybt status artifacts/demo",
    "report": "raybt report artifacts/demo",
    "submit": "raybt submit configs/phase2.yaml --address http://127.0.0.1:8265 --follow",
    "schema": "raybt schema > raybt.schema.json",
    "doctor": "raybt doctor --smoke",
}


def words(text: str) -> str:
    """Text without its line breaks and frames, which depend on the terminal."""
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", text).split())


def facts(out: str) -> dict[str, str]:
    """`name  value` lines as a dict."""
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())


# ---- help, completion, schema ----


def test_help_names_every_command_and_the_exit_codes():
    ended = raybt("--help")
    assert ended.code == 0 and all(f" {name} " in ended.out for name in COMMANDS)
    assert set(COMMANDS) == {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    for code in ("0 complete", "1 failure", "2 bad input", "3 finished with failed rows", "130 stopped by Ctrl-C"):
        assert code in words(ended.out)


@pytest.mark.parametrize(("name", "example"), COMMANDS.items())
def test_each_command_explains_itself_with_an_example(name, example):
    ended = raybt(name, "--help")
    assert ended.code == 0 and example in words(ended.out) and "[bold]" not in ended.out


def test_a_part_of_a_run_is_named_by_its_stages():
    text = words(raybt("run", "--help").out)
    assert "--only" in text and "--from" in text and "raybt run configs/phase1_toy.yaml --only scan" in text


def test_without_a_command_the_help_is_shown():
    assert "Commands" in (raybt().out + raybt().err)


def test_raybt_is_an_installed_command():
    (entry,) = entry_points(group="console_scripts", name="raybt")
    assert entry.load() is cli.main


@pytest.mark.parametrize(("typed", "offered"), [("raybt st", "status"), ("raybt run --s", "--set")])
def test_the_shell_completes(typed, offered):
    assert {"--install-completion", "--show-completion"} <= set(words(raybt("--help").out).split())
    settings = {"_RAYBT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    program = "import sys; sys.argv = ['raybt']; from raybt.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **settings}
    )
    assert offered in done.stdout.split()


@pytest.fixture(scope="module")
def schema():
    ended = raybt("schema")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_accepts_the_shipped_configs(schema, path):
    schema.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("section", [None, "model", "problems", "prompt", "sampling", "interventions", "replicas"])
def test_the_schema_knows_misspelt_keys_and_explains_the_others(schema, section):
    values = yaml.safe_load((CONFIGS / "phase2.yaml").read_text())
    (values[section] if section else values)["sampels"] = 1
    assert [error.validator for error in schema.iter_errors(values)] == ["additionalProperties"]
    assert schema.schema["$defs"]["Problems"]["properties"]["shuffle_seed"]["description"]


# ---- plan ----


def test_the_demos_plan_adds_up(tmp_path):
    """Every stage has a baseline and its subsets x scales; what stages share is planned twice and run once."""
    grids = yaml.safe_load(DEMO.read_text())["interventions"]["grids"]
    stages = [list(product(grid["subsets"], grid["scales"])) for grid in grids.values()]
    conditions, treatments = (
        sum(1 + len(stage) for stage in stages),
        1 + len({one for stage in stages for one in stage}),
    )
    assert len(stages) == 2 and treatments < conditions - 1
    ended = raybt("plan", DEMO, "--set", f"artifacts={tmp_path}")
    there = facts(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert there["model"].startswith("raybt-toy (6 layers, local:")
    assert there["conditions"] == f"{conditions} in 2 stages"
    assert there["prompts"].startswith("24, ")
    unique = treatments * 24 * 4
    assert there["rows planned"] == f"{conditions * 24 * 4:,}, of which {unique:,} unique"
    assert (there["rows done"], there["rows missing"]) == ("0", f"{unique:,}")
    assert there["tokens missing"] == f"at most {unique * 160:,}"
    assert there["run folder"] == str(tmp_path / "demo") and not list(tmp_path.iterdir())


def test_a_plan_may_be_a_baseline_alone(tmp_path):
    there = facts(raybt("plan", DEMO, "--set", "interventions={}", "--set", f"artifacts={tmp_path}").out)
    assert (there["conditions"], there["rows planned"]) == ("1 in 1 stages", "96, of which 96 unique")


def test_planning_loads_neither_torch_nor_ray(tmp_path):
    ended = raybt_alone("plan", DEMO, "--set", f"artifacts={tmp_path}", then=LOADED)
    assert ended.code == 0 and ended.out.splitlines()[-1] == PLANNED, ended


@pytest.mark.parametrize("wanted", [["schema"], ["--help"], ["run", "none.yaml"], ["status", "none"]], ids=" ".join)
def test_what_needs_neither_loads_neither(wanted):
    assert raybt_alone(*wanted, then=LOADED).out.splitlines()[-1] == "loaded"


def test_a_million_rows_are_planned_with_neither(tmp_path):
    """2,500 generated problems x 4 samples x (a baseline and 10 subsets at 10 scales) = 1,010,000 rows."""
    problems = tmp_path / "many.jsonl"
    write_jsonl(problems, take(2500, seed="a million rows", split="train"))
    subsets = {f"{kind}_{layer}": [f"{kind}.{layer}"] for kind in ("attn", "mlp") for layer in range(5)}
    grids = {"sweep": {"subsets": list(subsets), "scales": [step / 10 for step in range(10)]}}
    config = tmp_path / "million.yaml"
    values = {
        "name": "million",
        "artifacts": str(tmp_path),
        "model": {"name": "raybt-toy"},
        "problems": {"name": str(problems)},
        "sampling": {"samples": 4, "max_new_tokens": 100},
        "interventions": {"subsets": subsets, "grids": grids},
    }
    config.write_text(yaml.safe_dump(values))
    start = time.monotonic()
    ended = raybt_alone("plan", config, then=LOADED)
    print(f"planned in {time.monotonic() - start:.1f} s")
    *lines, loaded = ended.out.splitlines()
    there = facts("\n".join(lines))
    assert (ended.code, loaded) == (0, PLANNED), ended
    assert there["rows planned"] == "1,010,000, of which 1,010,000 unique"
    assert there["conditions"] == "101 in 1 stages" and there["prompts"].startswith("2,500, ")
    assert there["tokens missing"] == "at most 101,000,000"


def test_a_plan_shows_each_stage_and_what_it_waits_for(tmp_path):
    """What earlier stages find is not known yet; what a half of the problems and one variant allow is."""
    ended = raybt("plan", CONFIGS / "phase1_toy.yaml", "--set", f"artifacts={tmp_path}")
    assert ended.code == 0 and "not yet known" in ended.out
    for stage in ("baseline", "targeted", "layer_sweep", "cumulative", "lens", "scan", "heads"):
        assert f" {stage} " in ended.out
    assert "waits for the sites of best" in ended.out and "waits for the baseline's onsets" in ended.out


# ---- status of a run that has begun ----


def test_a_run_that_has_begun_is_all_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    plan = make_plan(load_config(DEMO, [f"artifacts={tmp_path}"]))
    open_run(plan, run_folder(plan))
    ended = raybt("status", tmp_path / "demo")
    rows = [line.split() for line in re.sub(r"[^\x00-\x7f]", " ", ended.out).splitlines() if "default" in line]
    assert ended.code == 0 and len(rows) == plan.conditions.num_rows
    assert rows[0] == ["subset_sweep", "baseline", "default", "96", "0", "0", "96"]


# ---- doctor ----


@pytest.mark.parametrize("options", [[], ["--smoke"]], ids=["plain", "smoke"])
def test_the_doctor_finds_this_machine_well(options):
    """A GPU and a hub token are not needed here."""
    ended = raybt("doctor", *options)
    lines = [line for line in ended.out.splitlines() if not line.startswith(" ")]
    found = dict(line.split(maxsplit=1)[1].split(": ", 1) for line in lines)
    assert ended.code == 0 and not any(line.startswith("missing") for line in lines), ended.out
    names = ["Python", "torch", "transformers", "ray", "pyarrow", "datasets", "CUDA", "Hugging Face token", "disk"]
    assert list(found) == names + ["smoke"] * len(options)
    if options:
        assert re.fullmatch(r"4 rows, [0-9]+ tokens on (cpu|cuda:0)", found["smoke"])


def test_the_doctor_names_what_is_missing_and_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed

    def version(name):
        if name == "torch":
            raise doctor.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    ended = raybt("doctor")
    assert ended.code == 1 and "missing torch: not installed" in ended.out and "make setup" in ended.out


def test_the_doctor_sees_a_token_in_the_env_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "")  # what raybt reads from .env is undone after the test
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert not doctor.hub_token().ok and "HF_TOKEN" in doctor.hub_token().fix
    (tmp_path / ".env").write_text("HF_TOKEN=abc\n")
    assert doctor.hub_token().ok and doctor.hub_token().found == ".env"
    assert "abc" not in raybt("doctor").out


def test_the_doctor_reports_a_smoke_test_that_fails(monkeypatch):
    def broken():
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(doctor, "_decode_four", broken)
    ended = raybt("doctor", "--smoke")
    assert ended.code == 1 and "smoke: RuntimeError: no such kernel" in ended.out and "make setup" in ended.out
