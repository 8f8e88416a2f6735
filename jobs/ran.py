"""A run of raybt as a user would start it, in a process of its own, and what it took."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from raybt.config import BASELINE, Config, Search
from raybt.load import load_config
from raybt.store.folder import RunFolder
from raybt.store.manifest import read_manifest
from raybt.store.shards import done

EVERY = 0.3  # seconds between looks at the processes


@dataclass(frozen=True)
class Ran:
    """A run that has ended.

    Args:
        memory: most bytes that a process held: of the driver, of a replica, of any other.
    """

    config: Config
    exit_code: int
    seconds: float
    memory: dict[str, int]

    @property
    def root(self) -> Path:
        return Path(self.config.artifacts, self.config.name)

    @property
    def starts(self) -> dict[str, float]:
        """Seconds that the first replica took to load, to prove, and to its first token, as the manifest has them."""
        manifest = read_manifest(RunFolder(str(self.root)))
        attempts = manifest.attempts if manifest else []
        starts = [seconds for attempt in attempts for seconds in attempt.get("starts", {}).values()]
        return starts[0] if starts else {}

    @property
    def tokens_per_second(self) -> float:
        """Over all waves, whatever else these did."""
        manifest = read_manifest(RunFolder(str(self.root)))
        attempts = manifest.attempts if manifest else []
        return sum(a.get("tokens", 0) for a in attempts) / sum(a.get("wall_seconds", 0) for a in attempts)

    def rows(self) -> dict[str, int]:
        """Stage -> its rows that are done; a grid's are those of its conditions, without the baseline beside them."""
        there = done(RunFolder(str(self.root))).keys
        counts = Counter(dict.fromkeys(stages(self.config), 0))
        for stage, condition, key in _columns(self.root / "plan.parquet", "stage", "condition", "key"):
            counts[stage] += key in there and (condition != BASELINE or stage == BASELINE)
        for stage, key in _columns(self.root / "measurements.parquet", "stage", "key"):
            counts[stage] += key in there
        return dict(counts)


def stages(config: Config) -> list[str]:
    """Every stage that a run of this config has, a search's rungs and confirmation each.

    Without stages that measure, the baseline is no stage of its own, but runs within each grid.
    """
    found = [*([BASELINE] if config.stages else []), *config.interventions.grids]
    for name, stage in config.stages.items():
        parts = [*(f"rung{rung + 1}" for rung in range(stage.rungs)), "confirm"] if isinstance(stage, Search) else []
        found += [f"{name}.{part}" for part in parts] or [name]
    return found


def raybt(config: Path, overrides: Sequence[str] = ()) -> Ran:
    """`raybt run CONFIG --set ...`; what it prints goes to the terminal."""
    start = time.monotonic()
    command = [sys.executable, "-m", "raybt", "run", str(config), *(part for o in overrides for part in ("--set", o))]
    process = subprocess.Popen(command)
    memory: dict[str, int] = {}
    watcher = threading.Thread(target=_watch, args=(process.pid, memory), daemon=True)
    watcher.start()
    try:
        code = process.wait()
    except BaseException:
        process.terminate()  # raybt ends its replicas then
        process.wait()
        raise
    watcher.join()
    return Ran(load_config(str(config), list(overrides)), code, time.monotonic() - start, memory)


def _watch(pid: int, memory: dict[str, int]) -> None:
    """Until the process ends, keep the most that it, a replica and any other process under it held."""
    try:
        driver = psutil.Process(pid)
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            for process in (driver, *driver.children(recursive=True)):
                _look(process, "driver" if process.pid == pid else None, memory)
            time.sleep(EVERY)
    except psutil.NoSuchProcess:
        return


def _look(process: psutil.Process, role: str | None, memory: dict[str, int]) -> None:
    try:
        name = process.cmdline()[:1]
        role = role or ("replica" if name and name[0].startswith("ray::Replica") else "other")
        memory[role] = max(memory.get(role, 0), process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile, or is being replaced
        return


def _columns(file: Path, *names: str):
    return zip(*(pq.read_table(file)[name].to_pylist() for name in names), strict=True) if file.exists() else ()
