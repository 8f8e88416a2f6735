"""What a part finds, on disk and on the screen as soon as it is known."""

import faulthandler
import json
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from raybt.engine.memory import release
from raybt.errors import first_line

POISONED = 3  # exit status: the device takes no more work from this process


class Found:
    """One part's findings in one file, written anew after every one.

    A part is a list of sections. One that fails is noted, and the next one runs. One that hangs ends the process, as
    does one that leaves the device unusable; the part is then started again, and goes on with the section after it.

    Args:
        file: what an earlier process of this part has left there is kept.
        seconds: until the part is killed; see `left`.
        patience: times a section's own limit that it may take.
    """

    def __init__(self, file: Path, device: str, seconds: float, patience: float = 1):
        self.file, self.device, self.end, self.patience = file, device, time.monotonic() + seconds, patience
        empty = {"part": file.stem, "sections": {}, "headlines": [], "failed": [], "found": {}}
        self.all: dict[str, Any] = json.loads(file.read_text()) if file.exists() else empty
        for name, state in self.all["sections"].items():
            if state == "began":
                self._fail(name, "the process died or hung in it")

    def left(self) -> float:
        return self.end - time.monotonic()

    def add(self, table: str, **numbers: Any) -> None:
        """A row of a table. `ok=False` in it counts as a failure."""
        self.keep(table, **numbers)
        shown = " ".join(f"{name}={_short(value)}" for name, value in numbers.items())
        print(f"[{self.all['part']}] {table}: {shown}", flush=True)
        if numbers.get("ok") is False:
            self.all["failed"].append(f"{table}: {shown}"[:300])
        self.write()

    def keep(self, table: str, **numbers: Any) -> None:
        """As `add`, but quietly, and written with what comes next."""
        self.all["found"].setdefault(table, []).append(numbers)

    def headline(self, text: str) -> None:
        """A line for the table at the end."""
        self.all["headlines"].append(text)
        self.write()

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.all["found"].get(table, [])

    def section(self, name: str, work: Callable[[], None], limit: float, needs: float = 0) -> None:
        """Do some work, unless it was begun before.

        Args:
            limit: seconds after which it counts as hung.
            needs: seconds that must be left for it to be worth beginning.
        """
        states = self.all["sections"]
        if name in states:
            return
        if self.left() < needs:
            states[name] = "skipped: no time left"
            print(f"[{self.all['part']}] {name}: {states[name]}", flush=True)
            self.write()
            return
        states[name] = "began"
        self.write()
        start = time.monotonic()
        faulthandler.dump_traceback_later(limit * self.patience, exit=True)
        try:
            work()
            if self.device != "cpu":
                torch.cuda.synchronize()
            states[name] = f"done in {time.monotonic() - start:.1f} s"
        except Exception as error:
            print(traceback.format_exc()[-4000:], flush=True)
            self._fail(name, f"{type(error).__name__}: {first_line(error, 400)}")
        faulthandler.cancel_dump_traceback_later()
        self.write()
        if self.device == "cpu" or usable():
            with suppress(RuntimeError):  # after a capture that broke torch's allocator
                release(torch.device(self.device))
        else:
            print(f"[{self.all['part']}] the device is unusable after {name}", flush=True)
            os._exit(POISONED)

    def _fail(self, section: str, why: str) -> None:
        self.all["sections"][section] = f"failed: {why}"
        self.all["failed"].append(f"{section}: {why}"[:300])
        self.write()

    def write(self) -> None:
        beside = self.file.with_suffix(".tmp")
        beside.write_text(json.dumps(self.all, indent=1))
        beside.replace(self.file)


def usable() -> bool:
    """Whether the device still works for this process: a bad access ends that for good."""
    try:
        torch.ones(4, device="cuda").sum().item()
    except RuntimeError:
        return False
    return True


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
