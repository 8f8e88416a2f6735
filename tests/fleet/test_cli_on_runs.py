"""`status`, `report`, `plan` and `run` on runs of the shipped model, through the command line."""

import re
import subprocess
from pathlib import Path

import pytest

from raybt.fleet import driver
from raybt.load import dump_yaml
from raybt.store.folder import RunFolder
from raybt.store.manifest import read_manifest
from tests.commands import ONE_LINE, raybt, refusal
from tests.fleet.conftest import small_config
from tests.fleet.without_ray import without_ray

pytestmark = pytest.mark.usefixtures("local_ray")


def write_config(tmp_path: Path, **sections) -> Path:
    """c.yaml for the run that `copy` gives."""
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config(tmp_path, **sections)))
    return tmp_path / "c.yaml"


def states(root: Path, monkeypatch) -> dict[str, list[str]]:
    """Condition -> planned, done, failed, missing, as `raybt status` prints them."""
    monkeypatch.setenv("COLUMNS", "120")
    ended = raybt("status", root)
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split() for line in re.sub(r"[^\x00-\x7f]", " ", ended.out).splitlines() if " default " in line]
    return {row[1]: row[3:] for row in rows}


def test_status_of_a_finished_run(finished, monkeypatch):
    conditions = ["baseline", "mlp_3@0", "mlp_3@0.5", "attn_4@0", "attn_4@0.5"]
    assert states(finished.root, monkeypatch) == {name: ["8", "8", "0", "0"] for name in conditions}


def test_status_counts_what_is_missing_condition_by_condition(copy, monkeypatch):
    lost, *_ = sorted(Path(copy, "completions").iterdir())
    lost.unlink()
    counts = [list(map(int, row)) for row in states(copy, monkeypatch).values()]
    assert all(planned == done + missing and not failed for planned, done, failed, missing in counts)
    assert sum(missing for *_, missing in counts) > 0


def test_report_draws_the_same_report_again(finished, copy):
    drawn = ["report.html", "report.md", *(f"figures/{path.name}" for path in Path(finished.root, "figures").iterdir())]
    for name in drawn:
        (copy / name).unlink()
    (copy / "figures" / "old.png").write_bytes(b"of an earlier config")
    ended = raybt("report", copy)
    assert (ended.code, ended.out, ended.err) == (0, f"{copy}/report.html\n", "")
    assert len(drawn) >= 8 and not (copy / "figures" / "old.png").exists()
    assert {name: (copy / name).read_bytes() == Path(finished.root, name).read_bytes() for name in drawn} == (
        dict.fromkeys(drawn, True)
    )


def test_plan_counts_what_is_done(copy, tmp_path):
    config = write_config(tmp_path)
    assert re.search(r"rows done +40\nrows missing +0\n", raybt("plan", config).out)
    more = raybt("plan", config, "--set", "sampling.samples=3")
    assert re.search(r"rows planned +60, of which 60 unique\nrows done +40\nrows missing +20\n", more.out)


def test_running_a_finished_run_again_says_so_and_changes_no_row(copy, tmp_path):
    before = {path: path.read_bytes() for path in (copy / "completions").iterdir()}
    ended = raybt("run", write_config(tmp_path))
    assert ended.code == 0 and "40 of 40 rows done, 0 failed, 0 missing" in ended.out
    assert f"report: {copy}/report.html" in ended.out
    assert {path: path.read_bytes() for path in (copy / "completions").iterdir()} == before


def test_more_gpus_than_there_are_is_a_users_mistake(tmp_path):
    ended = raybt("run", write_config(tmp_path, replicas={"count": 1, "slots": 16, "gpus": 99}))
    assert "must fit on the cluster's GPUs" in refusal(ended)["rule"]
    assert not (tmp_path / "small" / "completions").exists()


@pytest.mark.parametrize("kilobytes", [28, 64], ids=["before the first row", "after the last"])
def test_a_disk_that_fills(tmp_path, completions, monkeypatch, kilobytes):
    """What was committed stays whole, and on a larger disk the same command goes on from there."""
    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(tmp_path / "small")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    config = write_config(tmp_path)
    try:
        ended = raybt("run", config)
        *progress, told = ended.err.splitlines(keepends=True)
        assert ended.code == 2 and "disk space" in ONE_LINE.fullmatch(told)["rule"]
        assert all(re.match("replica 1: |wave 1 |judging |drawing ", line) for line in progress)
        assert not list((tmp_path / "small").rglob("*.tmp"))
        monkeypatch.setattr(driver, "publish", lambda folder: None)  # it takes longer than the rest
        subprocess.run([*mount[:4], "remount,size=50m", *mount[5:]], check=True)
        with without_ray():
            assert raybt("run", config).code == 0
        assert len(completions(tmp_path / "small")) == 40
        assert not read_manifest(RunFolder(str(tmp_path / "small"))).set_aside  # type: ignore[union-attr]
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], capture_output=True)
