"""The driver killed in mid-run, and stopped by Ctrl-C: what is committed stays, and nothing is repeated."""

import signal
from pathlib import Path

import pytest

from raybt.errors import COMPLETE, STOPPED
from raybt.load import dump_yaml
from tests.fleet.conftest import small_config
from tests.fleet.processes import started, wait_for
from tests.fleet.without_ray import run_here

MANY = {"problems": {"name": "raybt-toy", "limit": 40}, "sampling": {"samples": 6, "max_new_tokens": 100}}
ROWS = 40 * 6 * 5  # many seconds of work after the first commit, so that a signal finds the driver still at it


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path, "killed", **MANY)


def committed(config):
    folder = Path(config.artifacts, config.name, "completions")
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.parquet")} if folder.exists() else {}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_here(small_config(tmp_path_factory.mktemp("undisturbed"), **MANY))


@pytest.fixture
def interrupt(config, tmp_path):
    """Start the run as a user does, send its driver a signal once it has committed; gives exit code and output."""
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))

    def send(number):
        there = committed(config)
        log = tmp_path / f"log-{number}"
        with started("raybt", "run", str(file), log=log) as (process, remember):
            wait_for(lambda: committed(config).keys() - there.keys(), patience=120, every=0.01)
            remember()
            process.send_signal(number)
            process.wait(60)
        return process.returncode, log.read_text()

    return send


@pytest.mark.timeout(900)  # four runs, each with a start of its own
def test_a_run_stopped_and_killed_goes_on_where_it_was(interrupt, config, completions, undisturbed):
    root = Path(config.artifacts, config.name)
    code, log = interrupt(signal.SIGINT)
    stopped = completions(root)
    assert code == STOPPED and "Traceback" not in log and "the same command goes on from there" in log
    assert 0 < len(stopped) < ROWS

    code, log = interrupt(signal.SIGKILL)
    killed, shards = completions(root), committed(config)
    assert code == -signal.SIGKILL and "Traceback" not in log
    assert stopped.items() <= killed.items() and len(stopped) < len(killed) < ROWS

    resumed = run_here(config)
    assert resumed.exit_code == COMPLETE
    assert shards.items() <= committed(config).items()  # what was committed was not touched again
    assert completions(root) == completions(undisturbed.root)  # the same keys and token ids, each once
