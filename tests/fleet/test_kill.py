"""The driver killed in mid-run, and stopped by Ctrl-C: what is committed stays, and nothing is repeated."""

import signal
from pathlib import Path

import pytest

from raybt.errors import COMPLETE, STOPPED
from raybt.fleet.driver import run
from raybt.load import dump_yaml
from tests.fleet.conftest import small_config
from tests.fleet.processes import started, wait_for

MANY = {"problems": {"name": "raybt-toy", "limit": 40}, "sampling": {"samples": 3, "max_new_tokens": 100}}


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path, "killed", **MANY)


def committed(config):
    folder = Path(config.artifacts, config.name, "completions")
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.parquet")} if folder.exists() else {}


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory):
    return run(small_config(tmp_path_factory.mktemp("undisturbed"), **MANY))


@pytest.fixture
def interrupted(config, tmp_path):
    """Start a run as a user does and send its driver a signal once shards are there; gives shards and exit code."""

    def send(number):
        file = tmp_path / "config.yaml"
        file.write_text(dump_yaml(config))
        with started("raybt", "run", str(file), log=tmp_path / "log") as (process, remember):
            wait_for(lambda: committed(config), patience=120)
            remember()
            process.send_signal(number)
            process.wait(60)
        return committed(config), process.returncode, (tmp_path / "log").read_text()

    return send


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, STOPPED)])
def test_an_interrupted_run_goes_on_where_it_was(interrupted, config, completions, undisturbed, number, code):
    before, returned, log = interrupted(number)
    assert returned == code and "Traceback" not in log
    kept = completions(Path(config.artifacts, config.name))
    assert 0 < len(kept) < 600

    resumed = run(config)
    assert resumed.exit_code == COMPLETE
    after = committed(config)
    assert {name: after[name] for name in before} == before  # committed shards were not touched

    assert completions(resumed.root) == completions(undisturbed.root)  # keys and token ids, each once
