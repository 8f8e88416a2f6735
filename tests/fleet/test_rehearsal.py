"""The literal phase 2 against a random Qwen2 of 28 narrow layers: planned, run, resumed, reported; and its prompts."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raybt.errors import COMPLETE
from raybt.fleet.driver import run
from raybt.load import load_config
from raybt.plan.rows import make_plan
from raybt.store.folder import RunFolder
from raybt.store.manifest import read_manifest
from tests.fleet.narrow import narrow_qwen2
from tests.fleet.without_ray import run_here, without_ray

CONFIGS = Path(__file__).parents[2] / "configs"
SUBSETS = ["mlp_27_only", "attn_27_only", "attn_no_early", "mlp_late_cluster", "phase1_full"]
SCALES = ["0", "0.25", "0.5", "0.75", "0.9"]
STAGES = {
    "subset_sweep": ["baseline", *(f"{subset}@0" for subset in SUBSETS)],
    "scale_sweep": ["baseline", *(f"mlp_late_cluster@{scale}" for scale in SCALES)],
}
PROBLEMS, TREATMENTS = 2, 10  # treatments: a baseline, 5 subsets, and the 4 scales that only the scale sweep has


@pytest.fixture(scope="module")
def random_qwen2(tmp_path_factory) -> Path:
    return narrow_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture
def rehearse(random_qwen2, tmp_path):
    """`rehearse("phase2_literal")` is that config with local paths and little to do."""
    lines = [{"question": f"Ann has {n} pens and buys {n}. How many?", "answer": f"#### {2 * n}"} for n in range(2, 8)]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    overrides = [
        f"artifacts={tmp_path}",
        f"model.name={random_qwen2}",
        "model.device=cpu",
        "model.dtype=float32",
        f"problems.name={tmp_path}/gsm8k.jsonl",
        f"problems.limit={PROBLEMS}",
        "sampling.samples=1",
        "sampling.max_new_tokens=24",
        "replicas.gpus=0",
        "replicas.slots=32",
    ]
    return lambda name: load_config(CONFIGS / f"{name}.yaml", overrides)


def shards(root: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(root, "completions").iterdir()}


def test_the_literal_phase_2_plans_runs_resumes_and_reports(rehearse, completions):
    config = rehearse("phase2_literal")
    plan = make_plan(config)
    assert plan.facts.n_layers == 28
    per_stage = Counter(plan.rows["stage"].to_pylist())
    assert per_stage == {stage: len(conditions) * PROBLEMS for stage, conditions in STAGES.items()}
    assert plan.rows.num_rows == 24 and plan.work.num_rows == TREATMENTS * PROBLEMS  # what stages share is once work

    first = run_here(config)
    there = completions(first.root)
    assert first.exit_code == COMPLETE and first.planned == first.done == len(there) == 20
    assert len({tuple(ids) for ids in there.values()}) > PROBLEMS  # the interventions reach a random model too

    before = shards(first.root)
    lost, *_ = sorted(before)
    lost_rows = pq.read_table(f"{first.root}/completions/{lost}").num_rows
    Path(first.root, "completions", lost).unlink()
    assert 0 < lost_rows < 20
    with without_ray():
        again = run(config)
    assert again.exit_code == COMPLETE and completions(again.root) == there
    assert {name: shards(again.root)[name] for name in before if name != lost} == (
        {name: data for name, data in before.items() if name != lost}
    )
    attempts = read_manifest(RunFolder(first.root)).attempts
    assert [attempt["rows"] for attempt in attempts] == [20, lost_rows]

    check_report(Path(again.root))


def check_report(root: Path) -> None:
    table = pq.read_table(root / "tables" / "conditions.parquet").to_pandas()
    named = {stage: list(rows["condition"]) for stage, rows in table.groupby("stage", sort=False)}
    assert named == STAGES and (table["done"] == PROBLEMS).all()
    for name in ("report.html", "report.md"):
        text = (root / name).read_text()
        assert all(condition in text for conditions in STAGES.values() for condition in conditions), name
    figures = {path.suffix for path in (root / "figures").iterdir()}
    assert figures >= {".png", ".svg"} and all(path.stat().st_size for path in (root / "figures").iterdir())


def test_the_literal_phase_2_asks_with_the_studys_prompt(rehearse):
    plan = make_plan(rehearse("phase2_literal"))
    tokenizer = plan.facts.tokenizer
    for prompt in plan.prompts.to_pylist():
        assert prompt["variant"] == "study"
        assert prompt["text"].startswith("Solve the problem carefully.\nUse <think> tags")
        assert prompt["text"].endswith(f"Problem: {prompt['question']}\n")
        assert prompt["token_ids"].count(tokenizer.bos_token_id) == (prompt["token_ids"][0] == tokenizer.bos_token_id)


def test_phase_2_opens_the_templates_think_tag_after_one_bos(rehearse):
    plan = make_plan(rehearse("phase2"))
    tokenizer = plan.facts.tokenizer
    for prompt in plan.prompts.to_pylist():
        assert "You are a helpful assistant." in prompt["text"] and f"Problem: {prompt['question']}" in prompt["text"]
        assert prompt["text"].endswith("<think>\n") and prompt["text"].count("<think>\n") == 1
        ids = prompt["token_ids"]
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.decode(ids) == prompt["text"]
