"""The driver: wave after wave until the run is complete, then tables and report."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from raybt.config import Config
from raybt.errors import COMPLETE, FAILED_ROWS, FAILURE, Failure
from raybt.fleet.aggregate import aggregate, is_aggregated
from raybt.fleet.cause import Cause
from raybt.fleet.cluster import enter
from raybt.fleet.course import Course, broken_named
from raybt.fleet.crew import Crew
from raybt.fleet.naming import name_rows
from raybt.fleet.selection import Chosen, choose, rows_of_stages
from raybt.fleet.standing import given, stand
from raybt.fleet.tasks import has_cpu
from raybt.plan.rows import Plan
from raybt.publish import publish
from raybt.store.folder import RunFolder
from raybt.store.lock import locked
from raybt.store.shards import Done


@dataclass(frozen=True)
class Outcome:
    """How a run stands: unique rows planned, done, failed and missing; why, and which (the first few).

    Args:
        reported: whether there is a report of it: a run without a row has none.
        cause: what stopped it, in one line.
    """

    root: str
    planned: int
    done: int
    failed: int
    missing: int
    notes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    reported: bool = True
    cause: str | None = None

    @property
    def exit_code(self) -> int:
        if self.missing or (self.planned and not self.done):
            return FAILURE
        return FAILED_ROWS if self.failed else COMPLETE


def run(
    config: Config,
    address: str | None = None,
    console: Console | None = None,
    only: Sequence[str] = (),
    first: str | None = None,
    allow_mixed: bool = False,
) -> Outcome:
    """Bring a run to its end: what is not committed yet is run, wave by wave, then everything is measured.

    Args:
        config: the run; the same config again resumes it.
        address: a Ray cluster's address; None runs on a private Ray on this machine.
        only, first: run only these stages, or this one and all after it, and what they need.
        allow_mixed: go on in another precision than that of the rows which are there.

    Raises:
        UserError: the input can't be run as it stands.
        Failure: Ray, or a task on it, broke.
    """
    chosen, run_of = choose(config, only, first), given(config)
    folder = run_of.folder
    stand(run_of)  # a mistake is said before the folder is made
    with locked(folder), broken_named(folder), ExitStack() as stack:
        crew = Crew(config.replicas)
        connect = partial(enter, stack, address, config.replicas)
        course = Course(run_of, address, console, connect, crew, chosen, allow_mixed)
        stack.callback(crew.dismiss)
        standing, found = course.to_its_end()
        plan = standing.plan
        reported = bool(found.keys & set(plan.work["key"].to_pylist()))
        if reported and not is_aggregated(plan, folder, found):
            course.connect()
            crew.dismiss()
            if course.cause and not has_cpu():  # what took the nodes has ended the wave: it is the news, not that
                raise Failure(course.cause.line)  # nothing is left to judge with
            course.say(f"judging and summarising {len(found.keys):,} rows")
            aggregate(plan, standing.decided, folder, found)
        stack.close()
        if reported:
            course.say("drawing the report")
            publish(folder)
    return outcome(plan, folder, found, tuple(course.notes), chosen, reported, course.cause)


def outcome(
    plan: Plan,
    folder: RunFolder,
    found: Done,
    notes: tuple[str, ...],
    chosen: Chosen | None = None,
    reported: bool = True,
    cause: Cause | None = None,
) -> Outcome:
    planned = set(rows_of_stages(plan, plan.work, chosen or Chosen())["key"].to_pylist())
    there, failed = planned & found.keys, planned & set(found.failed)
    missing = planned - there - failed
    waiting = [
        f"{stage} waits for {what}" for stage, what in plan.layout.waiting.items() if stage in (chosen or Chosen())
    ]
    named = name_rows(plan, missing)
    counts = len(planned), len(there), len(failed), len(missing)
    why = cause.line if cause and missing else None
    if failed and not there and not missing:
        why = why_all_failed([found.failed[key] for key in failed])
    return Outcome(folder.root, *counts, notes, named, tuple(waiting), reported, why)


def why_all_failed(errors: Sequence[str]) -> str:
    (error, rows), *_ = Counter(errors).most_common(1)
    return f"every row failed; {rows:,} of {len(errors):,}: {error}"
