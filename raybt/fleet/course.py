"""The course of a run: wave after wave, each followed by what it allows to decide, until nothing more can be."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
from ray.exceptions import RayError
from rich.console import Console

from raybt.config import Search
from raybt.errors import Failure, UserError
from raybt.fleet.board import Snapshot
from raybt.fleet.cause import Cause, cause_of
from raybt.fleet.crew import Crew
from raybt.fleet.finished import Tables
from raybt.fleet.judging import judge_completions
from raybt.fleet.naming import name_wave
from raybt.fleet.opening import open_run
from raybt.fleet.provenance import provenance
from raybt.fleet.selection import Chosen, rows_of_stages
from raybt.fleet.standing import DECISIONS_FILE, Given, Standing, decisions_in, stand
from raybt.fleet.vectors import make_missing
from raybt.fleet.wave import run_wave
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.manifest import finish_attempt, record_attempt, record_cause, record_set_aside
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
        allow_mixed: whether rows may be made in another precision than those that are there.

    Attributes:
        tried: keys that this process ran already, so that a row which fails is not tried twice.
        waves: how many there were.
        notes: what went wrong on the way.
        cause: what ended the last wave early.
    """

    run: Given
    address: str | None
    console: Console | None
    connect: Callable[[], None]
    crew: Crew
    chosen: Chosen = field(default_factory=Chosen)
    allow_mixed: bool = False
    tried: set[str] = field(default_factory=set)
    waves: int = 0
    notes: list[str] = field(default_factory=list)
    cause: Cause | None = None

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
        open_run(standing.plan, self.run.folder, self.allow_mixed)
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
        keys = work["key"].to_pylist()
        self.waves += 1
        name = name_wave(self.waves, plan, keys)
        state = generate(plan, self.run.folder, work, self.address, self.console, self.crew, name)
        self.notes += [note for note in told(state) if note not in self.notes]
        self.cause = state.failure
        self.tried |= set(keys)
        return audit(self.run.folder)  # a replica given up for dead may have committed what its successor did too

    def go_on(self, standing: Standing, there: Done) -> bool:
        """Make vectors and decisions that this standing allows; whether there were any."""
        if not standing.plan.layout.waiting and not self.undecided(standing):
            return False
        self.connect()
        self.crew.make_room()
        self.say("judging what is written, and deciding what follows")
        judge_completions(standing.plan, self.run.folder, there)
        made = make_missing(standing.plan, self.run.folder, there, self.crew)
        tables = Tables(standing.plan, self.run.folder, there)
        fresh = decide(self.run.config, self.run.facts, standing.decided, self.run.ids, tables)
        self.keep(standing.decided.with_more(fresh))
        return bool(fresh) or made

    def say(self, text: str) -> None:
        """Tell the terminal what goes on between waves."""
        if self.console:
            self.console.print(text, markup=False, highlight=False)

    def undecided(self, standing: Standing) -> bool:
        """Whether a stage has yet to choose its events, or a search to end."""
        return any(
            not search_ended(name, stage.rungs, standing.decided)
            if isinstance(stage, Search)
            else f"events:{name}" not in standing.decided
            for name, stage in self.run.config.stages.items()
        )


def generate(
    plan: Plan, folder: RunFolder, work: pa.Table, address: str | None, console: Console | None, crew: Crew, name: str
) -> Snapshot:
    """Run rows in one wave; what became of it is given back, and kept in the manifest whatever ends it."""
    number, clock, state = record_attempt(folder, provenance(address)), time.monotonic(), Snapshot()
    status = "interrupted"
    try:
        run_wave(plan, folder, work, state, console, crew, name)
        status = "failed" if state.failure else "ended"
    except Exception as error:
        status = "failed"
        mistake = isinstance(error, UserError)
        state.failure = state.failure or cause_of(error, "a replica refused its input" if mistake else "the wave broke")
        raise
    finally:
        finish_attempt(folder, number, {"status": status, **measured(state, time.monotonic() - clock)})
    return state


def told(state: Snapshot) -> list[str]:
    """What went wrong in a wave, beside what ended it, for a terminal."""
    return [*state.notes, *(death.line for death in state.deaths if death != state.failure)]


@contextmanager
def broken_named(folder: RunFolder) -> Iterator[None]:
    """What breaks on Ray beside a wave's rows, such as a task that judges, as its innermost cause."""
    try:
        yield
    except RayError as error:
        if isinstance(error, UserError):
            raise
        cause = cause_of(error, "the run broke")
        record_cause(folder, cause.entry, cause.trace)
        raise Failure(cause.line) from error


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
        "starts": state.starts,
        "cause": state.failure.entry if state.failure else None,
        "notes": told(state) + traces(state),
    }


def traces(state: Snapshot) -> list[str]:
    """The ends of tracebacks, each once."""
    causes = [*state.deaths, *([state.failure] if state.failure else [])]
    return list(dict.fromkeys(cause.trace for cause in causes if cause.trace))
