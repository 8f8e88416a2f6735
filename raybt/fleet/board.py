"""The board: one small actor where replicas write what they do and the driver reads it."""

import time
from dataclasses import dataclass, field
from itertools import count

import ray

from raybt.errors import UserError


@dataclass
class Snapshot:
    """What the replicas have done so far in this wave."""

    rows: int = 0
    tokens: int = 0
    failed: int = 0
    notes: list[str] = field(default_factory=list)
    replicas: dict[str, str] = field(default_factory=dict)  # replica -> numerics class
    refusal: UserError | None = None


@ray.remote(num_cpus=0, max_restarts=0)
class Board:
    """Counts, notes and the handshake by which driver and replicas prove that they share storage."""

    def __init__(self):
        self.state = Snapshot()
        self.announced: dict[str, str] = {}
        self.confirmed: set[str] = set()
        self.numbers = count()

    def add(self, rows: int, tokens: int, failed: int) -> None:
        self.state.rows += rows
        self.state.tokens += tokens
        self.state.failed += failed

    def note(self, text: str) -> None:
        self.state.notes.append(text)

    def refuse(self, error: UserError) -> None:
        self.state.refusal = self.state.refusal or error

    def join(self, replica: str, numerics: str) -> None:
        self.state.replicas[replica] = numerics

    def next_number(self) -> int:
        """0, 1, 2, ..., each given once."""
        return next(self.numbers)

    def announce(self, name: str, content: str) -> None:
        self.announced[name] = content

    def unconfirmed(self) -> dict[str, str]:
        return {name: content for name, content in self.announced.items() if name not in self.confirmed}

    def confirm(self, name: str) -> None:
        self.confirmed.add(name)

    def is_confirmed(self, name: str) -> bool:
        return name in self.confirmed

    def snapshot(self) -> Snapshot:
        return self.state


def wait_confirmed(board, name: str, patience: float = 60) -> bool:
    """Wait until the driver has read the file `name` back; False when it could not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if ray.get(board.is_confirmed.remote(name)):
            return True
        time.sleep(0.1)
    return False
