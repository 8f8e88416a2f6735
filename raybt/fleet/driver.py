"""The driver: wave after wave until the run is complete, then tables and report."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console

from raybt.config import Config
from raybt.errors import COMPLETE, FAILED_ROWS, FAILURE
from raybt.fleet.aggregate import aggregate, is_aggregated
from raybt.fleet.cluster import enter
from raybt.fleet.course import Course
from raybt.fleet.crew import Crew
from raybt.fleet.selection import Chosen, choose, rows_of_stages
from raybt.fleet.standing import given, stand
from raybt.plan.rows import Plan
from raybt.publish import publish
from raybt.store.folder import RunFolder
from raybt.store.lock import locked
from raybt.store.shards import Done


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
    waiting: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        if self.missing:
            return FAILURE
        return FAILED_ROWS if self.failed else COMPLETE


def run(
    config: Config,
    address: str | None = None,
    console: Console | None = None,
    only: Sequence[str] = (),
    first: str | None = None,
) -> Outcome:
    """Bring a run to its end: what is not committed yet is run, wave by wave, then everything is measured.

    Args:
        config: the run; the same config again resumes it.
        address: a Ray cluster's address; None runs on a private Ray on this machine.
        only, first: run only these stages, or this one and all after it, and what they need.

    Raises:
        UserError: the input can't be run as it stands.
    """
    chosen, run_of = choose(config, only, first), given(config)
    folder = run_of.folder
    stand(run_of)  # a mistake is said before the folder is made
    with locked(folder), ExitStack() as stack:
        crew = Crew(config.replicas)
        course = Course(run_of, address, console, lambda: enter(stack, address, config.replicas), crew, chosen)
        stack.callback(crew.dismiss)
        standing, found = course.to_its_end()
        plan = standing.plan
        if not is_aggregated(plan, folder, found):
            course.connect()
            crew.dismiss()
            aggregate(plan, standing.decided, folder, found)
        stack.close()
        publish(folder)
    return outcome(plan, folder, found, tuple(course.notes), chosen)


def outcome(
    plan: Plan, folder: RunFolder, found: Done, notes: tuple[str, ...], chosen: Chosen | None = None
) -> Outcome:
    planned = set(rows_of_stages(plan, plan.work, chosen or Chosen())["key"].to_pylist())
    there, failed = planned & found.keys, planned & set(found.failed)
    missing = planned - there - failed
    waiting = [
        f"{stage} waits for {what}" for stage, what in plan.layout.waiting.items() if stage in (chosen or Chosen())
    ]
    named = name_rows(plan, missing)
    return Outcome(folder.root, len(planned), len(there), len(failed), len(missing), notes, named, tuple(waiting))


def name_rows(plan: Plan, keys: set[str], most: int = 5) -> tuple[str, ...]:
    """Rows as their users know them: stage, condition, variant, problem, sample."""
    if not keys:
        return ()
    names = ["stage", "condition", "variant", "problem", "sample"]
    tables = [table.select([*names, "key"]) for table in (plan.rows, plan.measurements)]
    rows = pa.concat_tables(tables)
    rows = rows.filter(pa.array([key in keys for key in rows["key"].to_pylist()], pa.bool_()))
    shown = [
        " / ".join(str(value) for value in list(row.values())[:-1] if value is not None)
        for row in rows.slice(0, most).to_pylist()
    ]
    return (*shown, f"and {rows.num_rows - most:,} more") if rows.num_rows > most else tuple(shown)
