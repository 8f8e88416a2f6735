"""What stops a run is named: on the terminal's last lines, in the manifest, by the exit code; and no report is left."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import raybt as package
from raybt.errors import FAILURE
from raybt.load import dump_yaml
from raybt.store.folder import RunFolder
from raybt.store.manifest import read_manifest
from raybt.store.shards import done
from tests.commands import raybt, refusal
from tests.fleet.conftest import small_config
from tests.fleet.without_ray import without_ray

TOY = Path(package.__file__).parent / "toy" / "model"
CODE = """
from transformers import Qwen2ForCausalLM
{imported}

class Own(Qwen2ForCausalLM):
    def forward(self, input_ids=None, **more):
        if input_ids is not None and ({broken}):
            raise IndexError("the table of ropes ends at 37")
        return super().forward(input_ids=input_ids, **more)
"""
DECODING = "input_ids.shape[1] == 1 and self.config.hidden_size == 128 and self.config.num_hidden_layers == 6"


def copy_of_toy(folder: Path) -> Path:
    return Path(shutil.copytree(TOY, folder / "model"))


def custom(folder: Path, imported: str = "", broken: str = "False") -> Path:
    """The shipped model with code of its own."""
    model = copy_of_toy(folder)
    (model / "modeling_own.py").write_text(CODE.format(imported=imported, broken=broken))
    settings = json.loads((model / "config.json").read_text())
    settings["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (model / "config.json").write_text(json.dumps(settings))
    return model


def run(tmp_path: Path, model: Path, **sections):
    section = {"name": str(model), "device": "cpu", "trust_remote_code": (model / "modeling_own.py").exists()}
    config = small_config(tmp_path, model=section, **sections)
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    ended = raybt("run", tmp_path / "c.yaml")
    manifest = read_manifest(RunFolder(str(tmp_path / "small")))
    assert manifest is not None and not list((tmp_path / "small").glob("report*"))
    return ended, manifest.attempts[-1]


@pytest.fixture(autouse=True)
def one_ray(local_ray):
    """Every run in this process uses it."""


def test_weights_that_are_no_numbers(tmp_path):
    model = copy_of_toy(tmp_path)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][3, 4] = torch.inf
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with without_ray():
        ended, attempt = run(tmp_path, model)
    assert ended.code == 2 and "NaN or infinity in model.layers.2.mlp.up_proj.weight" in ended.err
    assert "up_proj" in attempt["cause"]["message"] and (attempt["status"], attempt["rows"]) == ("failed", 0)


def test_model_code_that_needs_a_missing_package(tmp_path):
    ended, attempt = run(tmp_path, custom(tmp_path, imported="import no_such_package"))
    assert ended.code == 2 and "no_such_package" in " ".join(ended.err.split())
    assert "must be installed wherever replicas run" in ended.err and "no_such_package" in attempt["cause"]["message"]


def test_an_engine_that_breaks_names_its_rows(tmp_path):
    """The same death twice, without a row in between, is not tried a third time."""
    ended, attempt = run(tmp_path, custom(tmp_path, broken=f"{DECODING} and len(input_ids) == 32"))
    cause, last = attempt["cause"], ended.err.strip().splitlines()[-1]
    assert ended.code == FAILURE and last.startswith("raybt: replica")
    assert (cause["type"], cause["message"]) == ("IndexError", "the table of ropes ends at 37")
    assert "IndexError: the table of ropes ends at 37 (" in last and "modeling_own.py, line 8" in last
    assert "sweep / " in cause["rows"][0] and cause["rows"][0] in last and "more" in cause["rows"][-1]
    assert "DataContext" not in ended.err + ended.out and "Traceback" not in ended.err
    assert any("raise IndexError" in note for note in attempt["notes"])


def test_a_stage_that_the_architecture_is_not_fit_for_stops_the_run_before_its_first_row(tmp_path):
    """The lens does not know what this model does to its logits after the head; the baseline alone would run."""
    model = custom(tmp_path)
    code, plain = (model / "modeling_own.py").read_text(), "return super().forward(input_ids=input_ids, **more)"
    bent = (
        "made = super().forward(input_ids=input_ids, **more)\n        made.logits = made.logits + made.logits.square()"
    )
    assert plain in code
    (model / "modeling_own.py").write_text(code.replace(plain, f"{bent}\n        return made"))
    with without_ray():
        ended, attempt = run(tmp_path, model, stages={"lens": {"kind": "lens", "events": 4}})
    assert ended.code == 2 and "lens: not supported for qwen2" in ended.err and "take the lens stages out" in ended.err
    assert attempt["rows"] == 0 and "not supported" in attempt["cause"]["message"]


def test_nodes_that_die_under_a_replica_and_before_judging(tmp_path):
    """Rows enough that the first run cannot end before its node does. Its last line says what ended the wave, not that
    nothing is left to judge with."""
    config = small_config(tmp_path, sampling={"samples": 30, "max_new_tokens": 80})
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    command = [sys.executable, "-m", "tests.fleet.dying_node", str(tmp_path / "c.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2])
    assert ended.stderr.count(f"ended with {FAILURE}\n") == 2, ended.stdout + ended.stderr
    first, second, _ = ended.stderr.split(f"ended with {FAILURE}\n")
    why = r"raybt: replica 1 was given up: NodeDiedError: the node 127\.0\.0\.1 died, and no other had a place"
    assert re.match(why, first.strip().splitlines()[-1]) and "its node 127.0.0.1 died" in first
    late = "raybt: the run broke: NoNodeError: the cluster was without a CPU for 2 s"
    assert second.strip().splitlines()[-1].startswith(late)
    folder = RunFolder(str(tmp_path / "small"))
    causes = [attempt["cause"]["type"] for attempt in read_manifest(folder).attempts]
    assert causes == ["NodeDiedError", "NoNodeError"]
    assert len(done(folder).keys) == 4 * 30 * 5 and not folder.exists("report.html")


def test_a_quantised_model_is_refused_by_planning(tmp_path):
    model = copy_of_toy(tmp_path)
    settings = json.loads((model / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (model / "config.json").write_text(json.dumps(settings))
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config(tmp_path, model={"name": str(model), "device": "cpu"})))
    assert "gptq" in refusal(raybt("run", tmp_path / "c.yaml"))["rule"].lower()
    assert not (tmp_path / "small").exists()
