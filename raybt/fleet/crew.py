"""The crew: the run's replicas, which stay up from its first wave to its last, so that each loads its model once."""

import asyncio
import time
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import ActorUnavailableError

from raybt.config import Replicas
from raybt.fleet.cause import cause_of
from raybt.fleet.cluster import gpus_each
from raybt.fleet.job import DONE, Job
from raybt.fleet.replica import Replica

RESTARTS = 3
"""How often a replica may die before the wave ends. Ray's own default is without end."""
SILENCE = 120
"""Seconds without an answer, and without Ray knowing why, after which a replica is given up."""


class Crew:
    """Replicas of one run.

    Args:
        wanted: how many, and with what.
    """

    def __init__(self, wanted: Replicas):
        self.wanted = wanted
        self.members: list[Any] = []

    def hire(self, count: int) -> list[Any]:
        """At least `count` replicas, those that are up already and new ones; each loads its model at its first work.

        Raises:
            UserError: the cluster has not the GPUs for them.
        """
        wanted, gpus = self.wanted, gpus_each(self.wanted)
        options = {"num_cpus": wanted.cpus, "num_gpus": gpus or None, "max_restarts": RESTARTS}
        while len(self.members) < min(count, wanted.count):
            actor = ray.remote(Replica).options(**options, max_task_retries=RESTARTS)
            self.members.append(actor.remote(len(self.members) + 1, time.monotonic()))
        return self.members

    def dismiss(self) -> None:
        """End every replica, at work or not; a Ray that is shut down has ended them."""
        for member in self.members if ray.is_initialized() else ():
            ray.kill(member, no_restart=True)
        self.members = []

    def give_up(self, number: int) -> None:
        """End one replica for good, wherever it is; its number stays its own."""
        ray.kill(self.members[number - 1], no_restart=True)

    def make_room(self) -> None:
        """End the replicas if they hold all CPUs: tasks beside them would wait for ever."""
        if ray.cluster_resources().get("CPU", 0) < len(self.members) * self.wanted.cpus + 1:
            self.dismiss()


class Courier:
    """What Ray Data runs: takes each block to one replica, always the same, and waits for it.

    A block whose replica is lost is given back undone, and the board is told why: raised here, Ray Data would wrap the
    cause in advice of its own, and end what other replicas are at.

    Args:
        crew: the replicas; a courier's number on the board is the number of its own.
    """

    def __init__(self, job: Job, board: Any, crew: list[Any]):
        self.job, self.board = job, board
        number: Any = ray.get(board.next_number.remote())
        self.place = number % len(crew)
        self.replica = crew[self.place]

    async def __call__(self, batch: pa.Table) -> pa.Table:
        try:
            return await self._ask(batch)
        except Exception as error:
            cause = cause_of(error, f"replica {self.place + 1} was lost")
            await self.board.lose.remote(self.place + 1, cause)
            return pa.table({"block": batch["block"], "rows": [0], "failed": [0]}, schema=DONE)

    async def _ask(self, batch: pa.Table) -> pa.Table:
        """Ask again while a replica only does not answer: until Ray knows of its death, it cannot start another."""
        deadline = time.monotonic() + SILENCE
        while True:
            try:
                return await self.replica.run.remote(self.job, self.board, batch)
            except ActorUnavailableError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1)
