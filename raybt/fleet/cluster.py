"""Getting a Ray to run on: a private local one, or a cluster that is already up."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ray
from ray._private import worker
from ray.exceptions import RayError

from raybt.config import Replicas
from raybt.errors import UserError, first_line
from raybt.fleet.auth import protect_token

LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only, despite its name
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ warns of every restartable actor that Ray Data makes
    "RAY_worker_niceness": "0",  # replicas are the work: at Ray's 15 they starve beside anything else that computes
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def connected(address: str | None, replicas: Replicas) -> Iterator[None]:
    """A Ray to work on, shut down afterwards if this call started it.

    Args:
        address: None starts a private Ray on this machine, bound to loopback; else the cluster's address
            (`auto` inside a submitted job).

    Raises:
        UserError: the cluster does not answer.
    """
    if ray.is_initialized():
        yield
        return
    _start_local(replicas) if address is None else _attach(address)
    quiet()
    try:
        yield
    finally:
        ray.shutdown()


def enter(stack: ExitStack, address: str | None, replicas: Replicas) -> None:
    """Connect until `stack` ends; a second call finds the first one's Ray."""
    stack.enter_context(connected(address, replicas))


def _start_local(replicas: Replicas) -> None:
    for name, value in LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with native_stderr_muted():
        _init_private(replicas)
    protect_token()


def _init_private(replicas: Replicas) -> None:
    ray.init(
        address="local",  # plain init() may attach to somebody's cluster
        num_cpus=max(os.cpu_count() or 1, math.ceil(replicas.count * replicas.cpus) + 1),  # 1 for tasks beside them
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )


@contextmanager
def native_stderr_muted() -> Iterator[None]:
    """Keep what Ray's C++ prints while it starts off the terminal: it announces the log level it was told."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _attach(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            "the Ray cluster must answer",
            f"{address} ({first_line(error, 160)})",
            "check the address and, where the cluster uses tokens, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
        ) from error


def quiet() -> None:
    """Keep the progress and logs of Ray and Ray Data off the user's terminal: what breaks is said once, by raybt."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # finite restarts of an actor pool have no named parameter before Ray 2.64
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    worker._worker_logs_enabled = False  # the raylet's events have no switch of their own


def gpus_each(replicas: Replicas) -> float:
    """GPUs that each replica owns.

    Raises:
        UserError: the config asks for more than the cluster has.
    """
    there = ray.cluster_resources().get("GPU", 0)
    wanted = (1 if there else 0) if replicas.gpus is None else replicas.gpus
    if wanted * replicas.count > there:
        raise UserError(
            "the replicas must fit on the cluster's GPUs",
            f"{replicas.count} x {wanted:g} wanted, {there:g} there",
            "lower replicas.count, or set replicas.gpus to 0 to run on the CPU",
        )
    return wanted
