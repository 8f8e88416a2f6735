"""The live display: a bar on a terminal, plain lines elsewhere."""

import time
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TimeRemainingColumn
from rich.text import Text

from raybt.fleet.board import Snapshot
from raybt.fleet.phases import lasting, told

PLAIN_EVERY = 5.0  # seconds between two lines while rows are written
HEARTBEAT = 30.0  # and while a phase lasts
FEW = 4  # replicas, of which each change is worth a line at once


class Display:
    """Shows what replicas do, then rows, tokens per second, time left and failures of one wave.

    Args:
        name: of the wave.
        total: rows of the wave.
        replicas: how many there will be.
        up: how many of them are there from earlier waves.
        console: where to print; None is standard error.
    """

    def __init__(self, name: str, total: int, replicas: int, up: int = 0, console: Console | None = None):
        self.name, self.total, self.replicas, self.up = name, total, replicas, up
        self.console = console or Console(stderr=True)
        self.started: float | None = None  # the first replica was ready
        self.begun = False
        self.phase, self.since, self.printed = "", time.monotonic(), 0.0
        self.told: set[str] = set()
        self.line = Text("starting", no_wrap=True, overflow="ellipsis")
        self.bar = Progress(
            SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=self.console
        )
        self.task = self.bar.add_task("", total=total)

    def shown(self) -> AbstractContextManager:
        """On a terminal, the wave's name, a line and a bar, for as long as this lasts."""
        if not self.console.is_terminal:
            return nullcontext()
        name = Text(self.name, no_wrap=True, overflow="ellipsis")
        return Live(Group(name, self.line, self.bar), console=self.console)

    def update(self, state: Snapshot) -> None:
        """Show the replicas' state; the clock of the rate starts when the first replica stands ready."""
        now = time.monotonic()
        if state.replicas and self.started is None:
            self.started = now
        self._tell_troubles(state)
        phase = told(state.posts, self.replicas, self.up, ready=not begun(state))
        changed, self.phase = phase != self.phase, phase
        if changed:
            self.since = now
        if self.console.is_terminal:
            self._draw(state)
        elif begun(state) and not self.begun:
            self.begun, self.printed = True, now
            self._print(f"{self.name}: first of {self.total:,} rows begun")
        elif self._is_due(state, changed, now - self.printed):
            self.plain(state)

    def last(self, state: Snapshot) -> None:
        """The wave is over: what a terminal shows already, elsewhere as a line."""
        self._tell_troubles(state)
        if not self.console.is_terminal and state.rows:
            self.plain(state)

    def plain(self, state: Snapshot) -> None:
        """One line: what replicas do until they write, then how far they are."""
        self.printed = time.monotonic()
        left = f", about {lasting(self._left(state))} left" if 0 < state.rows < self.total else ""
        rows = f"{self.name}: rows {state.rows:,}/{self.total:,}, {self._rate(state)}{left}"
        self._print("; ".join(part for part in (rows if begun(state) else "", self._phase()) if part))

    def _is_due(self, state: Snapshot, changed: bool, silent: float) -> bool:
        if changed and self.phase and (self.replicas <= FEW or silent > PLAIN_EVERY):
            return True
        return silent > (PLAIN_EVERY if state.rows else HEARTBEAT)

    def _tell_troubles(self, state: Snapshot) -> None:
        """Say at once what the run's end will say again: it may be hours away."""
        causes = [*state.deaths, *([state.failure] if state.failure and self.replicas > 1 else [])]
        for text in (*state.notes, *(cause.brief for cause in causes)):
            if text not in self.told:
                self.told.add(text)
                self._print(text)

    def _draw(self, state: Snapshot) -> None:
        parts = (self._rate(state) if begun(state) else "", self._phase())
        self.line.plain = "; ".join(part for part in parts if part)
        self.bar.update(self.task, completed=state.rows)

    def _phase(self) -> str:
        """What replicas do, and for how long if it is long."""
        seconds = time.monotonic() - self.since
        return self.phase + (f", for {lasting(seconds)}" if self.phase and seconds > PLAIN_EVERY else "")

    def _rate(self, state: Snapshot) -> str:
        """A wave of measurements alone writes no token; and the first rate of all says nothing yet."""
        seconds, failed = self._elapsed(), f"{state.failed} failed"
        if seconds < 1:
            return failed
        if state.written:
            return f"{state.written / seconds:,.0f} tokens/s, {failed}"
        return f"{state.rows / seconds:,.1f} rows/s, {failed}"

    def _left(self, state: Snapshot) -> float:
        return self._elapsed() * (self.total - state.rows) / state.rows

    def _elapsed(self) -> float:
        return time.monotonic() - self.started if self.started else 0.0

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)


def begun(state: Snapshot) -> bool:
    """Whether a token was written or a row measured."""
    return bool(state.written or state.rows)
