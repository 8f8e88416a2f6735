"""Send a run to a Ray cluster as a job, and follow it."""

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

import raybt
from raybt.config import Config
from raybt.errors import COMPLETE, FAILURE, UserError, first_line
from raybt.load import absolute, dump_yaml

LOOPBACK = "http://127.0.0.1:8265"
QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal", "TOKENIZERS_PARALLELISM": "false"}
PACKAGE = Path(raybt.__file__).parent


@dataclass(frozen=True)
class Submitted:
    """A job on its way: where it runs and what it is called there."""

    address: str
    job: str


def dashboard(address: str | None) -> str:
    """The job server's address: the one given, else RAY_ADDRESS, else this machine.

    Raises:
        UserError: it is no URL.
    """
    where = address or os.environ.get("RAY_ADDRESS") or LOOPBACK
    if "://" not in where:
        raise UserError("a job server's address starts with http:// or https://", where, f"write http://{where}")
    return where


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster's job server.

    Raises:
        UserError: it does not answer, or wants a token.
    """
    logging.getLogger("ray").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            "the Ray job server must answer",
            f"{address} ({first_line(error, 160)})",
            "start one (ray start --head), forward its port 8265, or pass --address; "
            "where it uses tokens, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
        ) from error


def submit(config: Config, address: str | None = None, allow_mixed: bool = False) -> Submitted:
    """Send a run to the cluster. Its paths are made absolute first: the job starts in a folder of its own.

    Args:
        allow_mixed: as for `raybt run`.

    Raises:
        UserError: no cluster, or the run's last job is still going.
    """
    where = dashboard(address)
    client = connect(where)
    job = next_name(client, config.name)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(dump_yaml(absolute(config)))
        send(client, job, folder, ["--allow-mixed"] if allow_mixed else [])
    return Submitted(where, job)


def send(client: JobSubmissionClient, job: str, folder: str, options: Sequence[str] = ()) -> None:
    """Start the job from a folder that holds its config.yaml; this raybt travels with it.

    Args:
        options: of `raybt run` there.

    Raises:
        UserError: the cluster refuses the job.
    """
    try:
        client.submit_job(
            submission_id=job,
            entrypoint=" ".join(["python -m raybt run config.yaml --address auto", *options]),
            runtime_env={
                "working_dir": folder,
                "py_modules": [str(PACKAGE)],
                "excludes": ["**/__pycache__"],
                "env_vars": QUIET,
            },
        )
    except RuntimeError as error:
        raise UserError(
            "the cluster must accept the job",
            first_line(error, 200),
            "a head node needs some seconds after its start: try again; else see `ray status` there",
        ) from error


def next_name(client: JobSubmissionClient, run: str) -> str:
    """Jobs of one run are numbered: a used name is refused by Ray, and two at once would write the same rows.

    Raises:
        UserError: an earlier job of the run has not ended.
    """
    prefix = f"raybt-{run}-"
    earlier = [job for job in client.list_jobs() if (job.submission_id or "").startswith(prefix)]
    for job in earlier:
        if not job.status.is_terminal():
            raise UserError(
                "one job at a time may write to a run",
                f"{job.submission_id} is {job.status.lower()}",
                f"wait for it, or: ray job stop {job.submission_id}",
            )
    numbers = [(job.submission_id or "").removeprefix(prefix) for job in earlier]
    return f"{prefix}{max((int(number) for number in numbers if number.isdigit()), default=0) + 1}"


def follow(submitted: Submitted, show: Callable[[str], None]) -> int:
    """Show a job's output until it ends; gives the exit code of `raybt run` there."""
    client = connect(submitted.address)
    asyncio.run(_show_logs(client, submitted.job, show))
    info = client.get_job_info(submitted.job)
    if info.status == JobStatus.SUCCEEDED:
        return COMPLETE
    show(f"job {submitted.job} {info.status.lower()}: {(info.message or '').strip()[-500:]}\n")
    return info.driver_exit_code or FAILURE


async def _show_logs(client: JobSubmissionClient, job: str, show: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job):
        show(lines)
