"""A study in waves: killed and resumed, run in parts, grown, refused, and left alone when it is complete."""

import re
import shutil
import signal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybt.errors import COMPLETE, FAILED_ROWS, STOPPED, UserError
from raybt.fleet import driver
from raybt.fleet.aggregate import aggregate
from raybt.fleet.course import audit
from raybt.fleet.driver import outcome, run
from raybt.fleet.finished import Tables
from raybt.fleet.standing import given, stand
from raybt.load import dump_yaml
from raybt.store.folder import RunFolder
from raybt.store.manifest import read_manifest
from raybt.store.schemas import FAILURES
from raybt.store.schemas.study import SCANS
from raybt.store.shards import SCANNED, commit_failures, done, read_rows
from raybt.study.decide import decide
from raybt.study.decisions import Decisions
from tests.commands import raybt, refusal
from tests.fleet.conftest import small_config
from tests.fleet.processes import started, wait_for
from tests.fleet.without_ray import run_here

pytestmark = pytest.mark.timeout(600)  # several runs, on a machine that may be busy

STUDY = {
    "problems": {"name": "raybt-toy", "limit": 40},
    "sampling": {"samples": 2, "max_new_tokens": 60},
    "interventions": {
        "subsets": {"mlp_2": ["mlp.2"], "found": {"from": "scan", "top": 2, "qualified": False}},
        "grids": {"targeted": {"subsets": ["found"], "controls": 2}},
    },
    "stages": {
        "lens": {"kind": "lens", "events": 4},
        "scan": {"kind": "scan", "events": 10, "operations": ["zero"]},
        "continuation": {"kind": "continuation", "subsets": ["found"], "events": 4, "draws": 1, "max_new_tokens": 8},
        "search": {"kind": "search", "subsets": ["mlp_2", "found"], "scales": [0], "rungs": 1, "margin": 0.3},
    },
    "replicas": {"count": 1, "slots": 16},
}


def study(artifacts, name="study", **sections):
    return small_config(artifacts, name, **(STUDY | sections))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of a study that nothing disturbed, only to be read."""
    return run_here(study(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole.root, tmp_path / "study"))


def decisions(root) -> pd.DataFrame:
    return pq.read_table(Path(root, "decisions.parquet")).to_pandas().set_index("name").sort_index()


def decided(root) -> set[str]:
    """Kinds of what is decided: controls, events, sites, search, confirm."""
    file = Path(root, "decisions.parquet")
    return {name.partition(":")[0] for name in decisions(root).index} if file.exists() else set()


def tables(root) -> dict[str, pd.DataFrame]:
    return {path.stem: pq.read_table(path).to_pandas() for path in sorted(Path(root, "tables").glob("*.parquet"))}


def scans(root) -> dict[str, dict]:
    """Key -> what a scan measured there, but not by whom."""
    folder = RunFolder(str(root))
    rows = read_rows(folder, SCANNED, done(folder).measured[SCANNED]).to_pylist()
    return {row.pop("key"): {name: row[name] for name in row if name not in ("seconds", "replica")} for row in rows}


def check_same(root, other, completions):
    assert completions(root) == completions(other) and scans(root) == scans(other)
    pd.testing.assert_frame_equal(decisions(root), decisions(other))
    for name, table in tables(other).items():
        pd.testing.assert_frame_equal(tables(root)[name], table)


def shards(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for kind in ("completions", "scans", "lenses")
            for path in Path(root, kind).glob("[!.]*.parquet")}  # fmt: skip


def test_every_stage_has_its_rows_and_its_table(whole):
    assert whole.exit_code == COMPLETE and whole.waiting == ()
    found = tables(whole.root)
    assert decided(whole.root) >= {"events", "sites", "controls", "search"}
    for name in ("lens", "attribution", "scan", "steps", "words", "continuations", "controls", "search"):
        assert len(found[name]), name
    measured = pq.read_table(f"{whole.root}/measurements.parquet").to_pandas()
    kinds = measured.groupby("kind")["event"].nunique()
    assert kinds["scan"] > 10 and kinds["lens"] > 4 and kinds["step"] == kinds["continuation"] == 4
    waves = [attempt["rows"] for attempt in read_manifest(RunFolder(whole.root)).attempts]
    assert waves[0] == 40 * 2 and waves[1] == len(set(measured.loc[measured["kind"].isin(["lens", "scan"]), "key"]))
    assert sum(waves) == whole.planned and 3 <= len(waves) <= 4  # the last confirms a search that has a winner


@pytest.mark.usefixtures("unpublished", "local_ray")
def test_a_study_stopped_in_one_wave_and_killed_in_another_ends_as_if_it_had_not_been(whole, tmp_path, completions):
    config = study(tmp_path)
    root, file = Path(config.artifacts, config.name), tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))

    def send(number: signal.Signals, kind: str) -> tuple[int, str]:
        """Start the run as a user does, send its driver a signal as soon as it commits rows of a kind."""
        log = tmp_path / f"log-{kind}"
        with started("raybt", "run", str(file), log=log) as (process, remember):
            wait_for(lambda: list(root.glob(f"{kind}/[!.]*.parquet")), patience=120, every=0.01)
            remember()
            process.send_signal(number)
            process.wait(60)
        return process.returncode, log.read_text()

    # how far a driver gets between a commit and its end is up to the machine: not to the end of the study
    code, log = send(signal.SIGINT, "completions")
    assert code == STOPPED and "Traceback" not in log and "the same command goes on from there" in log
    first, there = shards(root), completions(root)
    assert first and "search" not in decided(root)
    code, log = send(signal.SIGKILL, "scans")
    assert code == -signal.SIGKILL and "Traceback" not in log
    second, early = shards(root), decisions(root)
    assert there.items() <= completions(root).items()
    assert "events" in decided(root) and "search" not in decided(root)
    assert first.items() <= second.items() and len(first) < len(second)

    resumed = run(config)
    assert resumed.exit_code == COMPLETE and second.items() <= shards(root).items()
    pd.testing.assert_frame_equal(decisions(root).loc[early.index], early)
    check_same(root, whole.root, completions)


def test_a_part_runs_what_it_needs_and_the_rest_ends_as_the_whole(whole, tmp_path, completions):
    config = study(tmp_path)
    part = run_here(config, only=["scan"])
    plan = stand(given(config)).plan
    scanned = [row["key"] for row in plan.measurements.to_pylist() if row["stage"] == "scan"]
    assert part.exit_code == COMPLETE and part.waiting == () and part.planned == part.done == 80 + len(set(scanned))
    assert len(completions(part.root)) == 80 and len(scans(part.root)) == len(set(scanned))
    assert not Path(part.root, "lenses").exists() and len(tables(part.root)["scan"]) == 12

    later = run_here(config, first="targeted")  # what comes after it too, but not the lens, which waits for nothing
    assert later.exit_code == COMPLETE and not Path(part.root, "lenses").exists()
    assert len(completions(part.root)) == len(completions(whole.root))
    assert run_here(config).exit_code == COMPLETE
    check_same(part.root, whole.root, completions)


def test_an_unknown_stage_is_one_line(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(study(tmp_path)))
    for option in ("--only", "--from"):
        told = refusal(raybt("run", file, option, "scam"))
        assert told["value"] == "scam" and "baseline, lens, scan, targeted, continuation, search" in told["fix"]
    assert not Path(tmp_path, "study").exists()


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("scan", {"events": 11}),
        ("scan", {"operations": ["zero", "mean"]}),
        ("lens", {"problems": "all"}),
        ("continuation", {"max_new_tokens": 9}),
        ("search", {"margin": 0.2}),
    ],
)
def test_a_change_within_a_stage_is_refused_and_touches_nothing(copied, tmp_path, stage, change):
    before = {path: path.read_bytes() for path in copied.rglob("*.*") if path.is_file()}
    stages = STUDY["stages"] | {stage: STUDY["stages"][stage] | change}
    with pytest.raises(UserError, match=rf"stages\.{stage}\.{next(iter(change))}.*--set name=study-2"):
        run(study(tmp_path, stages=stages))
    assert {path: path.read_bytes() for path in before} == before


def test_growing_keeps_what_was_decided_and_done(copied, tmp_path, completions):
    before, early, there = shards(copied), decisions(copied), completions(copied)
    config = study(tmp_path, sampling={"samples": 3, "max_new_tokens": 60})
    grown = run_here(config)
    assert grown.exit_code == COMPLETE and before.items() <= shards(copied).items()
    assert there.items() < completions(copied).items()
    pd.testing.assert_frame_equal(decisions(copied), early)  # reread
    counts = tables(copied)["conditions"].set_index(["stage", "condition"])["done"]
    assert counts["baseline", "baseline"] == 120

    run_of, standing = given(config), stand(given(config))
    told = Tables(standing.plan, run_of.folder, audit(run_of.folder))
    anew = {one.name: one for one in decide(config, run_of.facts, Decisions(), run_of.ids, told)}
    assert anew["events:scan"].made_from != early.loc["events:scan", "made_from"]  # made again it would be another


def test_a_complete_study_starts_no_ray_and_changes_nothing_but_its_report(copied, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr(driver, "enter", refuse)
    monkeypatch.setattr("ray.init", refuse)
    run_here(study(tmp_path))  # the copy lies elsewhere than its config says, which is logged
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    again = run(study(tmp_path))
    after = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert again.exit_code == COMPLETE and before.items() <= after.items()
    drawn = {str(path.relative_to(copied)) for path in after.keys() - before.keys()}
    assert "report.html" in drawn and all(re.match(r"report\.|figures/", name) for name in drawn)


def test_failed_rows_of_a_scan_are_counted(local_ray, copied, tmp_path):
    """As if one text's shard of the scan had ended in errors."""
    folder, run_of = RunFolder(str(copied)), given(study(tmp_path))
    before, early = tables(copied)["scan"], decisions(copied)
    plan = stand(run_of).plan.measurements.to_pandas()
    onsets = set(plan.loc[(plan["stage"] == "scan") & (plan["role"] == "onset"), "key"])
    lost = next(name for name in done(folder).measured[SCANNED]
                if onsets & set(folder.read_table(name, SCANS)["key"].to_pylist()))  # fmt: skip
    keys = folder.read_table(lost, SCANS)["key"].to_pylist()
    folder.remove(lost)
    errors = [{"key": key, "error": "the model gave NaN or infinite logits", "replica": "r"} for key in keys]
    commit_failures(folder, "b", 0, pa.Table.from_pylist(errors, FAILURES))

    standing, there = stand(run_of), audit(folder)
    aggregate(standing.plan, standing.decided, folder, there)
    scan = tables(copied)["scan"]
    failed = len(onsets & set(keys))
    assert failed and (scan["failed"] == failed).all() and (scan["planned"] == before["planned"]).all()
    assert (scan["done"] == before["done"] - failed).all() and (before["failed"] == 0).all()
    told = outcome(standing.plan, folder, there, ())
    assert told.exit_code == FAILED_ROWS and told.failed == len(keys) and told.missing == 0
    pd.testing.assert_frame_equal(decisions(copied), early)
