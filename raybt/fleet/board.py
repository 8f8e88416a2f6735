"""The board: one small actor where replicas write what they do and the driver reads it."""

import time
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybt.errors import UserError
from raybt.fleet.cause import Cause

WORDLESS = "its process was killed or crashed without a word"


@dataclass(frozen=True)
class Post:
    """Where one of the crew stands: the process that it is now, the node that it is on, and what it does."""

    replica: str
    node: str
    phase: str = "starting"


class Death(NamedTuple):
    """Of a replica's process, by its own account; `rows` were committed in the wave by then."""

    replica: str
    cause: Cause
    rows: int


@dataclass
class Snapshot:
    """What the replicas have done so far in this wave.

    Attributes:
        rows, tokens, failed: of what is committed.
        written: tokens of all rows, also those that have not ended.
        notes: what the run's manifest should say.
        replicas: name -> numerics class, of those that were ready.
        posts: number -> where it stands.
        starts: name -> seconds to load, to prove, and from hire to the first token (or measured row), of those that
            loaded in this wave.
        deaths: causes of replicas' deaths that another start mended, or did not.
        failure: the first cause that no other start mends.
        refusal: the user's mistake.
    """

    rows: int = 0
    tokens: int = 0
    failed: int = 0
    written: int = 0
    notes: list[str] = field(default_factory=list)
    replicas: dict[str, str] = field(default_factory=dict)
    posts: dict[int, Post] = field(default_factory=dict)
    starts: dict[str, dict[str, float]] = field(default_factory=dict)
    deaths: list[Cause] = field(default_factory=list)
    failure: Cause | None = None
    refusal: UserError | None = None

    @property
    def over(self) -> bool:
        """Whether no replica should begin any more."""
        return self.failure is not None or self.refusal is not None


@ray.remote(num_cpus=0, max_restarts=0)
class Board:
    """Counts, phases, causes, and the handshake by which driver and replicas prove that they share storage."""

    def __init__(self):
        self.state = Snapshot()
        self.announced: dict[str, str] = {}
        self.confirmed: set[str] = set()
        self.numbers = count()
        self.hired: dict[str, float] = {}  # of replicas that have not written a token yet
        self.died: dict[int, Death] = {}  # number -> its last death
        self.lost_nodes: set[str] = set()

    # what replicas do

    def enter(self, number: int, replica: str, node: str) -> bool:
        """A process of the crew begins with this wave; whether it should go on."""
        before, told = self.state.posts.get(number), self.died.get(number)
        silent = before and before.replica != replica and (told is None or told.replica != before.replica)
        if before and silent and before.node not in self.lost_nodes:
            self.note(f"replica {before.replica}: {WORDLESS}, and was started again")
        self.state.posts[number] = Post(replica, node)
        return not self.state.over

    def phase(self, number: int, text: str) -> None:
        post = self.state.posts[number]
        self.state.posts[number] = Post(post.replica, post.node, text)

    def join(self, replica: str, numerics: str, seconds: dict[str, float], hired: float) -> None:
        """A replica is ready; `seconds` says how long it loaded and proved, nothing if it did so in an earlier wave."""
        self.state.replicas[replica] = numerics
        if seconds:
            self.state.starts[replica] = seconds
            self.hired[replica] = hired

    def write(self, replica: str, tokens: int) -> None:
        """Tokens were written, of rows that have ended or not."""
        self.state.written += tokens
        self._first(replica)

    def add(self, replica: str, rows: int, tokens: int, failed: int) -> None:
        """Rows were committed."""
        self.state.rows += rows
        self.state.tokens += tokens
        self.state.failed += failed
        self._first(replica)

    def _first(self, replica: str) -> None:
        if replica in self.hired:  # both clocks are the driver's machine's
            seconds = time.monotonic() - self.hired.pop(replica)
            self.state.starts[replica]["first_token_seconds"] = round(seconds, 2)

    # what goes wrong

    def note(self, text: str) -> None:
        if text not in self.state.notes:
            self.state.notes.append(text)

    def refuse(self, error: UserError) -> None:
        self.state.refusal = self.state.refusal or error

    def fail(self, cause: Cause) -> None:
        self.state.failure = self.state.failure or cause

    def die(self, number: int, cause: Cause) -> None:
        """A replica's process is about to end. The same death twice, with no row committed in between, is a failure."""
        last = self.died.get(number)
        self.died[number] = Death(self.state.posts[number].replica, cause, self.state.rows)
        self.state.deaths.append(cause)
        self.phase(number, "starting again")
        if last and last.cause.same(cause) and last.rows == self.state.rows:
            self.fail(cause)

    def lose(self, number: int, cause: Cause) -> None:
        """Ray gave a replica up; what its last process said of its own death tells more than Ray does."""
        post, told = self.state.posts.get(number), self.died.get(number)
        if post and told and told.replica == post.replica:
            cause = told.cause
        elif post:
            cause = replace(cause, what=f"replica {post.replica} was lost")
        self.fail(cause)

    def bereave(self, node: str, address: str) -> None:
        """A node died: its replicas wait for a place elsewhere."""
        self.lost_nodes.add(node)
        self.note(f"the node {address} died")
        for number, post in self.state.posts.items():
            if post.node == node:
                self.phase(number, f"waiting for a place, since its node {address} died")

    # numbers and the handshake

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


def set_up() -> Any:
    """A board on the driver's own node: what would end the board would end the driver too."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Board.options(scheduling_strategy=here).remote()  # pyright: ignore[reportAttributeAccessIssue]


def wait_confirmed(board, name: str, patience: float = 60) -> bool:
    """Wait until the driver has read the file `name` back; False when it could not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if ray.get(board.is_confirmed.remote(name)):
            return True
        time.sleep(0.1)
    return False
