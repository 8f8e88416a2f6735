"""Whole runs on a real Ray: what is committed, that nothing is repeated, and what two replicas change (nothing)."""

import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray

from raybt.errors import COMPLETE, FAILED_ROWS, FAILURE, UserError
from raybt.fleet import crew, wave
from raybt.fleet.board import Snapshot, set_up
from raybt.fleet.crew import Crew
from raybt.fleet.driver import run
from raybt.fleet.opening import open_run, run_folder
from raybt.fleet.progress import Display
from raybt.plan.rows import make_plan
from raybt.store.folder import RunFolder
from raybt.store.manifest import read_manifest
from raybt.store.schemas import CONDITION_TABLE, CONTRAST_TABLE, EVENTS, GRADES
from raybt.store.shards import done
from tests.fleet.without_ray import run_here

pytestmark = pytest.mark.usefixtures("local_ray", "unpublished")


def shards(root):
    return {path.name: path.stat().st_mtime_ns for path in Path(root, "completions").iterdir()}


def table(root, name):
    return pq.read_table(f"{root}/tables/{name}.parquet").to_pandas()


def test_a_run_resumes_grows_and_repeats_nothing(copy, make_config, completions):
    config = make_config()
    first = run(config)
    there = completions(first.root)
    plan = make_plan(config)
    assert first.exit_code == COMPLETE and first.planned == first.done == len(there) == 40
    assert set(there) == set(plan.rows["key"].to_pylist())

    before = shards(first.root)
    assert run(config).exit_code == COMPLETE
    assert shards(first.root) == before  # nothing to do, nothing done

    grids = {"sweep": {"subsets": ["mlp_3", "attn_4"], "scales": [0, 0.5, 0.75]}}
    grown = run_here(make_config(interventions=config.interventions.model_dump() | {"grids": grids}))
    assert {name: before[name] for name in before} == {name: shards(first.root)[name] for name in before}
    assert grown.done == 56 and there.items() <= completions(first.root).items()
    changes = read_manifest(RunFolder(first.root)).config_changes
    assert any("scales" in line for change in changes for line in change["differences"])


def test_tables_join_by_key_and_count_every_row(finished):
    outcome = finished
    conditions, contrasts = table(outcome.root, "conditions"), table(outcome.root, "contrasts")
    assert pq.read_schema(f"{outcome.root}/tables/conditions.parquet").equals(CONDITION_TABLE)
    assert pq.read_schema(f"{outcome.root}/tables/contrasts.parquet").equals(CONTRAST_TABLE)
    assert list(conditions["condition"]) == ["baseline", "mlp_3@0", "mlp_3@0.5", "attn_4@0", "attn_4@0.5"]
    assert (conditions["planned"] == 8).all() and (conditions["done"] == 8).all()
    assert set(contrasts["measure"]) == {"onset_rate", "relaxed_rate", "accuracy_all", "mean_tokens"}
    assert (contrasts["pairs"] == 8).all() and not contrasts["mixed_numerics"].any()
    assert conditions["mean_tokens"].nunique() > 1  # interventions do something


def test_judgements_carry_the_schemas_and_every_key(finished, completions):
    outcome = finished
    grades = [pq.read_table(path) for path in Path(outcome.root, "grades").iterdir()]
    events = [pq.read_table(path) for path in Path(outcome.root, "events").iterdir()]
    assert all(one.schema.equals(GRADES) for one in grades) and all(one.schema.equals(EVENTS) for one in events)
    assert {key for one in grades for key in one["key"].to_pylist()} == set(completions(outcome.root))


def test_receipts_say_what_the_hooks_touched(finished):
    outcome = finished
    plan = pq.read_table(f"{outcome.root}/plan.parquet").to_pandas()
    rows = pd.concat([pq.read_table(path).to_pandas() for path in Path(outcome.root, "completions").iterdir()])
    rows = plan.merge(rows, on="key")
    for row in rows.itertuples():
        steps = len(row.token_ids) - 1
        site = {"mlp_3": "mlp.3", "attn_4": "attn.4"}.get(row.condition.partition("@")[0])
        assert {one["site"]: one["steps"] for one in row.receipt} == ({site: steps} if site else {})


def test_two_replicas_give_the_tokens_of_one(finished, make_config, completions):
    one = finished
    two = run(make_config("two", replicas={"count": 2, "slots": 48}))
    assert completions(one.root) == completions(two.root)
    workers = {
        path: set(pq.read_table(path)["replica"].to_pylist()) for path in Path(two.root, "completions").iterdir()
    }
    assert len(set().union(*workers.values())) == 2
    dropped = ["numerics"]
    pd.testing.assert_frame_equal(
        table(one.root, "conditions").drop(columns=dropped), table(two.root, "conditions").drop(columns=dropped)
    )


def test_a_torn_and_a_foreign_shard_are_set_aside_and_run_again(copy, make_config, completions):
    config = make_config()
    outcome = run(config)
    there = completions(outcome.root)
    torn, *_ = sorted(Path(outcome.root, "completions").iterdir())
    torn.write_bytes(torn.read_bytes()[:-100])
    Path(outcome.root, "completions", "notes.parquet").write_bytes(b"hello")
    assert run_here(config).exit_code == COMPLETE
    assert completions(outcome.root) == there
    aside = {entry["file"] for entry in read_manifest(RunFolder(outcome.root)).set_aside}
    assert aside == {f"completions/{torn.name}", "completions/notes.parquet"}


def test_failed_rows_are_counted_and_tried_again(make_config):
    subsets = {"huge": ["mlp.3"]}
    grids = {"sweep": {"subsets": ["huge"], "scales": [3e38]}}
    config = make_config(interventions={"subsets": subsets, "grids": grids})
    outcome = run_here(config)
    assert outcome.exit_code == FAILED_ROWS and outcome.missing == 0
    assert outcome.failed > 0 and outcome.done + outcome.failed == 16
    counts = table(outcome.root, "conditions").set_index("condition")
    failed = outcome.failed
    assert counts.loc["huge@3e+38", ["planned", "done", "failed", "missing"]].tolist() == [8, 8 - failed, failed, 0]
    assert make_plan(config).missing(done(RunFolder(outcome.root)).keys).num_rows == failed


def test_a_key_changing_edit_is_refused_and_touches_nothing(copy, make_config):
    before = {path: path.read_bytes() for path in copy.rglob("*.*") if path.is_file()}
    with pytest.raises(UserError, match="temperature.*--set name=small-2"):
        run(make_config(sampling={"samples": 2, "max_new_tokens": 80, "temperature": 0.9}))
    assert {path: path.read_bytes() for path in before} == before


def kill_replicas(board, times):
    """Kill replicas by process id, each as soon as it stands ready."""
    killed = set()
    while len(killed) < times:
        for name in ray.get(board.snapshot.remote()).replicas:
            pid = int(name.rpartition("-")[2])
            if pid not in killed:
                killed.add(pid)
                os.kill(pid, 9)
        time.sleep(0.05)


@pytest.mark.parametrize("survives", [True, False])
def test_a_dead_replica_is_replaced_a_finite_number_of_times(make_config, completions, monkeypatch, survives):
    monkeypatch.setattr(crew, "RESTARTS", 1)  # each start of a replica takes seconds
    made, kills = [], 1 if survives else 2

    def caught():  # the real board, caught on its way so that the test can see the replicas' process ids
        made.append(set_up())
        threading.Thread(target=kill_replicas, args=(made[0], kills), daemon=True).start()
        return made[0]

    monkeypatch.setattr(wave, "set_up", caught)
    config = make_config()
    outcome = run(config)
    if survives:
        assert outcome.exit_code == COMPLETE and len(completions(outcome.root)) == 40
        assert "killed or crashed without a word, and was started again" in outcome.notes[0] and not outcome.cause
    else:
        assert outcome.exit_code == FAILURE and outcome.missing > 0
        assert re.match(r"replica \S+ was lost: ActorDiedError: its process was killed or crashed", outcome.cause)
        assert "sweep / baseline / default" in outcome.named[0]


def test_storage_that_is_not_shared_is_refused_before_the_first_row(make_config, tmp_path):
    plan = make_plan(make_config())
    folder = run_folder(plan)
    open_run(plan, folder)
    job, board, crew = wave.make_job(plan, folder), set_up(), Crew(plan.config.replicas)
    elsewhere = replace(job, root=str(tmp_path / "elsewhere"))
    state = Snapshot()
    with wave.watched(board, folder, state, Display("wave", 40, 1), crew):
        wave.execute(plan.config, elsewhere, board, plan.work, crew)
        crew.dismiss()
    assert "must share the run folder" in str(state.refusal) and state.refusal.exit_code == 2
    assert not Path(folder.root, "completions").exists()


def test_a_replica_with_another_model_is_refused(make_config):
    plan = make_plan(make_config())
    folder = run_folder(plan)
    open_run(plan, folder)
    changed = replace(plan, facts=replace(plan.facts, fingerprint="local:0"))
    with pytest.raises(UserError, match="every replica must load the model"):
        wave.run_wave(changed, folder, plan.work, Snapshot())
