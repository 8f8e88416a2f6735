"""The live display: a bar on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from raybt.fleet.board import Snapshot
from raybt.store.folder import RunFolder

POLL = 0.25
PLAIN_EVERY = 5.0


class Display:
    """Shows rows, tokens per second, time left and failures of one wave.

    Args:
        total: rows of the wave.
        console: where to print; None is standard error.
    """

    def __init__(self, total: int, console: Console | None = None):
        self.total, self.console = total, console or Console(stderr=True)
        self.started: float | None = None
        self.printed = 0.0
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting replicas", total=total, detail="")

    def update(self, state: Snapshot) -> None:
        """Show the replicas' state; the clock starts when the first replica stands ready."""
        if not state.replicas:
            return
        self.started = self.started or time.monotonic()
        self.bar.update(self.task, description="rows", completed=state.rows, detail=self._detail(state))
        if not self.console.is_terminal and time.monotonic() - self.printed > PLAIN_EVERY:
            self.plain(state)

    def last(self, state: Snapshot) -> None:
        """The wave is over: what a terminal shows already, elsewhere as a line."""
        if not self.console.is_terminal and state.replicas:
            self.plain(state)

    def plain(self, state: Snapshot) -> None:
        self.printed = time.monotonic()
        left = f", about {self._left(state):.0f} s left" if 0 < state.rows < self.total else ""
        self.console.print(f"rows {state.rows}/{self.total}, {self._detail(state)}{left}", highlight=False)

    def _detail(self, state: Snapshot) -> str:
        rate = state.tokens / max(self._elapsed(), 1e-9)
        return f"{rate:,.0f} tokens/s, {state.failed} failed"

    def _left(self, state: Snapshot) -> float:
        return self._elapsed() * (self.total - state.rows) / state.rows

    def _elapsed(self) -> float:
        return time.monotonic() - self.started if self.started else 0.0


@contextmanager
def watched(board, folder: RunFolder, total: int, state: Snapshot, console: Console | None = None) -> Iterator[None]:
    """Poll the board while a wave runs: keep `state` up to date, show it, confirm the replicas' storage tokens."""
    display, stop = Display(total, console), threading.Event()

    def look() -> None:
        vars(state).update(vars(ray.get(board.snapshot.remote())))
        display.update(state)

    def poll() -> None:
        while not stop.wait(POLL):
            confirm_tokens(board, folder)
            look()

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    with display.bar:
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)
            look()
            display.last(state)


def confirm_tokens(board, folder: RunFolder) -> None:
    """Read back what each replica says it wrote; what is not there stays unconfirmed and the replica refuses."""
    waiting: Any = ray.get(board.unconfirmed.remote())
    for name, content in waiting.items():
        if folder.exists(name) and folder.read(name) == content.encode():
            board.confirm.remote(name)
