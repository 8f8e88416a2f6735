"""Real processes for the tests: started in a session of their own and cleaned up by process id, never `ray stop`."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil

LOOPBACK_ONLY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def started(*words, log, cwd=None, **environment):
    """`python -m ...` with its output in the file `log`; everything it started is gone afterwards."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **LOOPBACK_ONLY, "PATH": as_activated(), **environment},
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
    family: dict[int, psutil.Process] = {}
    try:
        yield process, lambda: family.update(descendants(process.pid))
    finally:
        family.update(descendants(process.pid))
        for child in family.values():
            with suppress(psutil.NoSuchProcess):
                child.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def heed_interrupts() -> None:
    """As at a terminal: what `nohup make test &` starts would ignore Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def as_activated() -> str:
    """The search path as in an activated environment: a job's `python` is then the one that runs Ray."""
    return f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"


def descendants(pid: int) -> dict[int, psutil.Process]:
    try:
        root = psutil.Process(pid)
        return {child.pid: child for child in [root, *root.children(recursive=True)]}
    except psutil.NoSuchProcess:
        return {}


def wait_for(ready, patience=90, every=0.1):
    """Wait until `ready()` is true; gives what it gave."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(every)
    raise AssertionError(f"nothing after {patience} s")
