"""The plan: rows, keys and unique work."""

import json
import random
import time

import pytest

from raybt.plan.keys import row_key, stream, treatment
from raybt.plan.rows import WORK, make_plan
from raybt.store.schemas import PLAN
from tests.plan.models import problem_file, small_config

GRIDS = {
    "first": {"subsets": ["late", "first"], "scales": [0, 0.5, 1]},
    "second": {"subsets": ["late"], "scales": [0, 0.9], "variants": ["none"]},
    "third": {"subsets": ["late"], "scales": [0], "positions": "generated"},
}
INTERVENTIONS = {"subsets": {"late": ["mlp.4-5"], "first": ["attn.0"]}, "grids": GRIDS}
PROMPT = {"variants": {"own": None, "none": ""}}


def plan_of(folder, **sections):
    return make_plan(small_config(folder, **{"interventions": INTERVENTIONS, "prompt": PROMPT, **sections}))


def keys_of(plan):
    rows = plan.rows.to_pylist()
    return {tuple(row.values())[:-1]: row["key"] for row in rows}


def test_every_row_has_the_key_of_the_plain_way(tmp_path):
    plan = plan_of(tmp_path)
    prompts = {(row["variant"], row["problem"]): row["token_ids"] for row in plan.prompts.to_pylist()}
    treated = {
        (row["stage"], row["condition"]): treatment(row["intervention"], row["positions"])
        for row in plan.conditions.to_pylist()
    }
    for (stage, condition, variant, problem, sample), key in keys_of(plan).items():
        ids, number = prompts[variant, problem], stream(plan.config.seed, problem, sample)
        plain = row_key(plan.facts.fingerprint, ids, treated[stage, condition], plan.config.sampling, number)
        assert key == plain


def test_a_plan_crosses_stages_conditions_variants_problems_and_samples(tmp_path):
    plan = plan_of(tmp_path)
    per_prompt = 6 * 2  # problems x samples
    assert plan.rows.num_rows == per_prompt * (7 * 2 + 3 * 1 + 2 * 2)
    assert len(keys_of(plan)) == plan.rows.num_rows
    assert plan.rows.schema == PLAN and plan.work.schema == WORK


def test_work_has_each_key_once_prompt_by_prompt_with_what_the_engine_needs(tmp_path):
    plan = plan_of(tmp_path)
    work = plan.work.to_pylist()
    assert {row["key"] for row in work} == set(plan.rows["key"].to_pylist())
    assert len({row["key"] for row in work}) == len(work)
    assert [row["prompt"] for row in work] == sorted(row["prompt"] for row in work)
    prompts = plan.prompts.to_pylist()
    for row in work:
        prompt, treated = prompts[row["prompt"]], treatment(row["intervention"], row["positions"])
        plain = row_key(plan.facts.fingerprint, prompt["token_ids"], treated, plan.config.sampling, row["stream"])
        assert row["key"] == plain


def test_scale_one_and_all_baselines_are_one_row(tmp_path):
    keys = keys_of(plan_of(tmp_path))
    same = {keys["first", name, "none", "p2", 1] for name in ("baseline", "late@1", "first@1")}
    assert same == {keys["second", "baseline", "none", "p2", 1]} == {keys["third", "baseline", "none", "p2", 1]}
    assert keys["first", "late@0", "none", "p2", 1] == keys["second", "late@0", "none", "p2", 1]
    assert keys["first", "late@0", "none", "p2", 1] != keys["third", "late@0", "none", "p2", 1]


def test_adding_conditions_variants_problems_and_samples_voids_no_row(tmp_path):
    before = keys_of(plan_of(tmp_path, problems={"name": str(problem_file(tmp_path / "three.jsonl", 3))}))
    grids = {**GRIDS, "first": {**GRIDS["first"], "scales": [0.25, 1, 0.5, 0]}}
    after = keys_of(
        plan_of(
            tmp_path,
            interventions={**INTERVENTIONS, "grids": grids},
            prompt={"variants": {"new": "?", "none": "", "own": None}},
            sampling={"samples": 3, "max_new_tokens": 20},
        )
    )
    assert before.items() <= after.items()


def test_permuted_problems_change_no_row(tmp_path):
    before = plan_of(tmp_path)
    file = tmp_path / "problems.jsonl"
    lines = file.read_text().splitlines()
    random.Random(1).shuffle(lines)
    file.write_text("\n".join(lines))
    assert keys_of(plan_of(tmp_path)) == keys_of(before)


def test_permuted_gold_changes_no_key(tmp_path):
    before = plan_of(tmp_path)
    file = tmp_path / "problems.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    golds = [record["answer"] for record in records]
    moved = [{**record, "answer": gold} for record, gold in zip(records, golds[1:] + golds[:1], strict=True)]
    file.write_text("\n".join(map(json.dumps, moved)))
    assert keys_of(plan_of(tmp_path)) == keys_of(before)


def test_greedy_rows_of_one_prompt_are_one_row(tmp_path):
    twins = [{"id": name, "question": "2 + 2?", "answer": "4"} for name in ("a", "b")]
    (tmp_path / "twins.jsonl").write_text("\n".join(map(json.dumps, twins)))
    sections = {"problems": {"name": str(tmp_path / "twins.jsonl")}, "prompt": {}, "interventions": {}}
    greedy = plan_of(tmp_path, **sections, sampling={"greedy": True, "max_new_tokens": 20})
    drawn = plan_of(tmp_path, **sections, sampling={"max_new_tokens": 20})
    assert (greedy.rows.num_rows, greedy.work.num_rows) == (2, 1)
    assert (drawn.rows.num_rows, drawn.work.num_rows) == (2, 2)


def test_missing_is_planned_minus_done(tmp_path):
    plan = plan_of(tmp_path)
    keys = plan.work["key"].to_pylist()
    assert plan.missing(set()).equals(plan.work)
    assert plan.missing({*keys[::2], "of another run"})["key"].to_pylist() == keys[1::2]
    assert plan.missing(set(keys)).equals(WORK.empty_table())


@pytest.mark.timeout(120)
def test_a_million_rows_are_planned_with_a_million_keys(tmp_path):
    problem_file(tmp_path / "many.jsonl", 2000)
    scales = [number / 100 for number in range(50)]
    grids = {"sweep": {"subsets": ["late", "first"], "scales": scales}}
    start = time.monotonic()
    plan = plan_of(
        tmp_path,
        problems={"name": str(tmp_path / "many.jsonl")},
        prompt={},
        sampling={"samples": 5, "max_new_tokens": 20},
        interventions={**INTERVENTIONS, "grids": grids},
    )
    print(f"{plan.rows.num_rows:,} rows planned in {time.monotonic() - start:.1f} s")
    assert plan.rows.num_rows == plan.work.num_rows == 2000 * 5 * 101
    assert len(plan.rows["key"].unique()) == plan.rows.num_rows
