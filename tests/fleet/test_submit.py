"""Jobs on a real Ray head node on loopback: submitted, stopped, submitted again from another folder, resumed."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from raybt.errors import COMPLETE, UserError
from raybt.fleet.submit import connect, follow, next_name, submit
from raybt.load import dump_yaml
from tests.fleet.conftest import small_config
from tests.fleet.processes import started, wait_for


def free_ports(count):
    """Distinct ports that nobody listens on: the tests' own Ray has the default ones."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The job server of a Ray head node that listens on loopback only."""
    log = tmp_path_factory.mktemp("head") / "log"
    names = ["port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    ports = dict(zip([*names, "runtime-env-agent-port"], free_ports(5), strict=True))
    words = ["ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=3", "--disable-usage-stats"]
    words += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    words += [f"--{name}={port}" for name, port in ports.items()]
    words += [f"--temp-dir=/tmp/rbt{os.getpid()}"]  # Ray's socket paths must stay short
    with started(*words, log=log) as (process, remember):
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        wait_for(lambda: process.poll() is not None or answers(address), patience=120, every=0.5)
        assert process.poll() is None, log.read_text()
        yield address
        remember()


def answers(address):
    """Whether the head node takes jobs; its agent is up some seconds after its server."""
    try:
        return connect(address).submit_job(entrypoint="true")
    except (UserError, RuntimeError, ConnectionError):
        return None


def shards(config):
    folder = Path(config.artifacts, config.name, "completions")
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.parquet")} if folder.exists() else {}


def test_submit_stop_submit_again_from_another_folder(head, tmp_path, monkeypatch, completions):
    monkeypatch.chdir(tmp_path)
    many = {"problems": {"name": "raybt-toy", "limit": 24}, "sampling": {"samples": 2, "max_new_tokens": 100}}
    config = small_config("runs", "sent", **many)  # a relative folder: here, not where the job runs
    first = submit(config, head)
    assert first.job == "raybt-sent-1"
    before = wait_for(lambda: shards(config), patience=150)

    with pytest.raises(UserError, match=r"one job at a time.*raybt-sent-1"):
        submit(config, head)

    client = connect(head)
    client.stop_job(first.job)
    wait_for(lambda: client.get_job_status(first.job) == JobStatus.STOPPED, patience=60)
    before = shards(config)
    assert 0 < len(completions(tmp_path / "runs" / "sent")) < 240

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = []
    second = submit(config.model_copy(update={"artifacts": "../runs"}), head, allow_mixed=True)
    assert client.get_job_info(second.job).entrypoint.endswith("--address auto --allow-mixed")
    assert second.job == "raybt-sent-2" and next_name(client, "other") == "raybt-other-1"
    assert follow(second, said.append) == COMPLETE, "".join(said)
    assert "240 of 240 rows done" in "".join(said)
    after = {path.name: path.read_bytes() for path in (tmp_path / "runs/sent/completions").glob("[!.]*.parquet")}
    assert {name: after[name] for name in before} == before
    assert len(completions(tmp_path / "runs" / "sent")) == 240
    assert (tmp_path / "runs" / "sent" / "report.html").exists()


def test_a_run_that_fails_there_gives_its_exit_code(head, tmp_path):
    config = small_config(tmp_path, "bad", prompt={"variants": {"long": "word " * 600}})
    said = []
    assert follow(submit(config, head), said.append) == 2
    assert "context" in "".join(said) and "Traceback" not in "".join(said)


def test_a_client_without_the_token_is_told_what_to_do(head, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(small_config(tmp_path)))
    log = tmp_path / "log"
    with started("raybt", "submit", str(file), "--address", head, log=log, RAY_AUTH_MODE="disabled") as (process, _):
        assert process.wait(60) == 2
    assert len(log.read_text().splitlines()) == 1 and "RAY_AUTH_TOKEN" in log.read_text()
