"""Watching a wave: the driver polls the board, shows it, answers replicas, and notices nodes that die."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray

from raybt.fleet import tasks
from raybt.fleet.board import Snapshot
from raybt.fleet.cause import Cause
from raybt.fleet.crew import Crew
from raybt.fleet.phases import lasting
from raybt.fleet.progress import Display
from raybt.store.folder import RunFolder

POLL = 0.25
NODES_EVERY = 2.0


@dataclass
class Nodes:
    """The cluster's nodes, and replicas that lost theirs in this wave.

    Attributes:
        alive: id -> address.
        waiting: number of a replica that has no place -> (since when, the address of the node that it was on).
    """

    board: Any
    crew: Crew
    alive: dict[str, str] = field(default_factory=lambda: living())
    waiting: dict[int, tuple[float, str]] = field(default_factory=dict)
    looked: float = 0.0

    def look(self, state: Snapshot) -> None:
        """Tell the board of nodes that died, and give up replicas that have found no other for too long."""
        now = time.monotonic()
        if now - self.looked < NODES_EVERY:
            return
        self.looked, alive = now, living()
        for node in self.alive.keys() - alive.keys():
            address = self.alive.pop(node)
            self.board.bereave.remote(node, address)
            here = [number for number, post in state.posts.items() if post.node == node]
            self.waiting.update(dict.fromkeys(here, (now, address)))
        self.alive |= alive
        for number, (since, address) in list(self.waiting.items()):
            if state.posts[number].node in self.alive:
                del self.waiting[number]
            elif now - since > tasks.PATIENCE:
                del self.waiting[number]
                self._give_up(number, address)

    def _give_up(self, number: int, address: str) -> None:
        why = f"the node {address} died, and no other had a place for its replica within {lasting(tasks.PATIENCE)}"
        ray.get(self.board.fail.remote(Cause(f"replica {number} was given up", "NodeDiedError", why)))
        self.crew.give_up(number)


def living() -> dict[str, str]:
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


@contextmanager
def watched(board: Any, folder: RunFolder, state: Snapshot, display: Display, crew: Crew) -> Iterator[None]:
    """Poll the board while a wave runs: keep `state` up to date, show it, confirm the replicas' storage tokens."""
    nodes, stop = Nodes(board, crew), threading.Event()

    def look() -> None:
        vars(state).update(vars(ray.get(board.snapshot.remote())))
        display.update(state)

    def poll() -> None:
        while not stop.wait(POLL):
            confirm_tokens(board, folder)
            look()
            nodes.look(state)

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    with display.shown():
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)
            look()
            display.last(state)


def confirm_tokens(board: Any, folder: RunFolder) -> None:
    """Read back what each replica says it wrote; what is not there stays unconfirmed and the replica refuses."""
    waiting: Any = ray.get(board.unconfirmed.remote())
    for name, content in waiting.items():
        if folder.exists(name) and folder.read(name) == content.encode():
            board.confirm.remote(name)
