"""The course of a run: wave after wave, each followed by what it allows to decide, until nothing more can be."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
from rich.console import Console

from raybt.config import Search
from raybt.fleet.board import Snapshot
from raybt.fleet.crew import Crew
from raybt.fleet.finished import Tables
from raybt.fleet.judging import judge_completions
from raybt.fleet.opening import open_run
from raybt.fleet.provenance import provenance
from raybt.fleet.selection import Chosen, rows_of_stages
from raybt.fleet.standing import DECISIONS_FILE, Given, Standing, decisions_in, stand
from raybt.fleet.vectors import make_missing
from raybt.fleet.wave import run_wave
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.manifest import finish_attempt, record_attempt, record_set_aside
from raybt.store.schemas.study import DECISIONS
from raybt.store.shards import Done, done
from raybt.study.decide import decide, search_ended
from raybt.study.decisions import Decisions


@dataclass
class Course:
    """Runs waves.

    Args:
        connect: called once, before the first wave; a run that is complete needs no Ray.
        crew: the run's replicas.
        chosen: the stages to run.

    Attributes:
        tried: keys that this process ran already, so that a row which fails is not tried twice.
        notes: what went wrong on the way.
    """

    run: Given
    address: str | None
    console: Console | None
    connect: Callable[[], None]
    crew: Crew
    chosen: Chosen = field(default_factory=Chosen)
    tried: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def to_its_end(self) -> tuple[Standing, Done]:
        """Wave, decide, wave, decide, ..., until nothing is missing that can run, and nothing left to decide."""
        while True:
            standing = self.stand()
            there = audit(self.run.folder)
            work = self.missing(standing.plan, there)
            if work.num_rows:
                there = self.wave(standing.plan, work)
                if self.missing(standing.plan, there, retry=False).num_rows:
                    return standing, there
            elif not self.go_on(standing, there):
                return standing, there

    def stand(self) -> Standing:
        """Plan, and open the run's folder with the plan and what it rests on."""
        standing = stand(self.run)
        open_run(standing.plan, self.run.folder)
        self.keep(standing.decided)
        return standing

    def keep(self, decided: Decisions) -> None:
        """Write down what was decided, before anything is run because of it."""
        if len(decided) > len(decisions_in(self.run.folder)):
            self.run.folder.commit_table(DECISIONS_FILE, decided.table(), DECISIONS)

    def missing(self, plan: Plan, there: Done, retry: bool = True) -> pa.Table:
        """Rows that are wanted, not committed and, unless `retry`, not failed either."""
        ended = there.keys | self.tried if retry else there.keys | set(there.failed)
        return rows_of_stages(plan, plan.missing(ended), self.chosen)

    def wave(self, plan: Plan, work: pa.Table) -> Done:
        self.connect()
        self.notes += generate(plan, self.run.folder, work, self.address, self.console, self.crew)
        self.tried |= set(work["key"].to_pylist())
        return audit(self.run.folder)  # a replica given up for dead may have committed what its successor did too

    def go_on(self, standing: Standing, there: Done) -> bool:
        """Make vectors and decisions that this standing allows; whether there were any."""
        if not standing.plan.layout.waiting and not self.undecided(standing):
            return False
        self.connect()
        self.crew.make_room()
        judge_completions(standing.plan, self.run.folder, there)
        made = make_missing(standing.plan, self.run.folder, there, self.crew)
        tables = Tables(standing.plan, self.run.folder, there)
        fresh = decide(self.run.config, self.run.facts, standing.decided, self.run.ids, tables)
        self.keep(standing.decided.with_more(fresh))
        return bool(fresh) or made

    def undecided(self, standing: Standing) -> bool:
        """Whether a stage has yet to choose its events, or a search to end."""
        return any(
            not search_ended(name, stage.rungs, standing.decided)
            if isinstance(stage, Search)
            else f"events:{name}" not in standing.decided
            for name, stage in self.run.config.stages.items()
        )


def generate(
    plan: Plan, folder: RunFolder, work: pa.Table, address: str | None, console: Console | None, crew: Crew
) -> tuple[str, ...]:
    """Run rows in one wave; what went wrong on the way is given back and kept in the manifest."""
    number, clock, state = record_attempt(folder, provenance(address)), time.monotonic(), Snapshot()
    status = "interrupted"
    try:
        run_wave(plan, folder, work, state, console, crew)
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
