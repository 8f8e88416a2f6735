"""The driver: plan, decode what is missing, judge, summarise, report."""

import time
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console

from raybt.config import Config
from raybt.errors import COMPLETE, FAILED_ROWS, FAILURE
from raybt.fleet.aggregate import aggregate, is_aggregated
from raybt.fleet.board import Snapshot
from raybt.fleet.cluster import connected
from raybt.fleet.made import made_vectors
from raybt.fleet.opening import open_run, run_folder
from raybt.fleet.provenance import provenance
from raybt.fleet.wave import run_wave
from raybt.plan.rows import Plan, make_plan
from raybt.publish import publish
from raybt.store.folder import RunFolder
from raybt.store.lock import locked
from raybt.store.manifest import finish_attempt, record_attempt, record_set_aside
from raybt.store.shards import Done, done


@dataclass(frozen=True)
class Outcome:
    """How a run stands: unique rows planned, done, failed and missing; why, and which (the first few)."""

    root: str
    planned: int
    done: int
    failed: int
    missing: int
    notes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        if self.missing:
            return FAILURE
        return FAILED_ROWS if self.failed else COMPLETE


def run(config: Config, address: str | None = None, console: Console | None = None) -> Outcome:
    """Bring a run to its end: whatever of its grid is not committed yet is decoded, then everything is measured.

    Args:
        config: the run; the same config again resumes it.
        address: a Ray cluster's address; None runs on a private Ray on this machine.

    Raises:
        UserError: the input can't be run as it stands.
    """
    plan = make_plan(config, made=made_vectors(config))
    folder = run_folder(plan)
    with locked(folder):
        open_run(plan, folder)
        found, notes = bring_up_to_date(plan, folder, address, console)
        publish(folder)
    return outcome(plan, folder, found, notes)


def bring_up_to_date(
    plan: Plan, folder: RunFolder, address: str | None, console: Console | None
) -> tuple[Done, tuple[str, ...]]:
    """Decode what is missing and measure what is there; a complete run needs no Ray.

    Returns:
        What the run has now, and what went wrong on the way.
    """
    found = audit(folder)
    work = plan.missing(found.keys)  # rows that failed before are tried again
    if not work.num_rows and is_aggregated(plan, folder, found):
        return found, ()
    with connected(address, plan.config.replicas):
        notes = generate(plan, folder, work, address, console) if work.num_rows else ()
        found = audit(folder)  # a replica given up for dead may have committed what its successor did too
        aggregate(plan, folder, found)
    return found, notes


def generate(
    plan: Plan, folder: RunFolder, work: pa.Table, address: str | None, console: Console | None
) -> tuple[str, ...]:
    """Decode rows in one wave; what went wrong on the way is given back and kept in the manifest."""
    number, clock, state = record_attempt(folder, provenance(address)), time.monotonic(), Snapshot()
    status = "interrupted"
    try:
        run_wave(plan, folder, work, state, console)
        status = "ended"
    finally:
        finish_attempt(folder, number, {"status": status, **measured(state, time.monotonic() - clock)})
    return tuple(state.notes)


def audit(folder: RunFolder) -> Done:
    """Set torn and foreign shards aside, so that their rows run again; gives what is sound."""
    folder.sweep()
    found = done(folder, repair=True)
    repeats = [(name, f"{rows} rows stood in an earlier shard and were taken out") for name, rows in found.repeated]
    record_set_aside(folder, [*found.torn, *repeats])
    return found


def measured(state: Snapshot, seconds: float) -> dict:
    return {
        "wall_seconds": round(seconds, 2),
        "rows": state.rows,
        "failed": state.failed,
        "tokens": state.tokens,
        "tokens_per_second": round(state.tokens / seconds, 1),
        "replicas": len(state.replicas),
        "numerics": sorted(set(state.replicas.values())),
        "notes": state.notes,
    }


def outcome(plan: Plan, folder: RunFolder, found: Done, notes: tuple[str, ...]) -> Outcome:
    planned = set(plan.rows["key"].to_pylist())
    there, failed = planned & found.keys, planned & set(found.failed)
    missing = planned - there - failed
    return Outcome(folder.root, len(planned), len(there), len(failed), len(missing), notes, name_rows(plan, missing))


def name_rows(plan: Plan, keys: set[str], most: int = 5) -> tuple[str, ...]:
    """Rows as their users know them: stage, condition, variant, problem, sample."""
    if not keys:
        return ()
    rows = plan.rows.filter(pa.array([key in keys for key in plan.rows["key"].to_pylist()]))
    names = [" / ".join(str(value) for value in list(row.values())[:-1]) for row in rows.slice(0, most).to_pylist()]
    return (*names, f"and {rows.num_rows - most:,} more") if rows.num_rows > most else tuple(names)
