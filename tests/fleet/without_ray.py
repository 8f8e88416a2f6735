"""Whole runs in this process: the real driver, replica and board, with plain calls where Ray carries them.

What Ray does itself, and what its processes can suffer, other tests have. Here each wave saves the start of three
processes, which takes longer than the wave of a small model.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from raybt.config import Config
from raybt.fleet import aggregate, board, driver, judging, replica, tasks, vectors, watching, wave
from raybt.fleet.job import IN_FLIGHT, cut

ONE_AT_A_TIME = threading.RLock()  # as an actor answers


class Handle:
    """An object whose methods are called as an actor's are, and answer at once."""

    def __init__(self, made: Any):
        self.made = made

    def __getattr__(self, name: str) -> Any:
        def remote(*args):
            with ONE_AT_A_TIME:
                return getattr(self.made, name)(*args)

        return SimpleNamespace(remote=remote)


class Crew:
    """One replica, in this process."""

    def __init__(self, wanted):
        self.wanted, self.members, self.loop = wanted, [], asyncio.new_event_loop()

    def hire(self, count: int) -> list[Any]:
        self.members = self.members or [replica.Replica()]
        return [self]

    @property
    def read_sites(self) -> Any:
        return SimpleNamespace(remote=lambda *args: self.loop.run_until_complete(self.members[0].read_sites(*args)))

    def work(self, job, told, blocks: list[pa.Table]) -> None:
        """Several blocks at once, as a courier brings them."""

        async def run() -> None:
            free = asyncio.Semaphore(IN_FLIGHT)

            async def bring(block: pa.Table) -> None:
                async with free:
                    await self.members[0].run(job, told, block)

            await asyncio.gather(*map(bring, blocks))

        self.loop.run_until_complete(run())

    def dismiss(self) -> None:
        for member in self.members:
            if member.desk:
                member.desk.close()
        self.members = []

    def make_room(self) -> None:
        """There is always room."""


def execute(config: Config, job, told, work: pa.Table, crew: Crew) -> None:
    crew.hire(1)
    crew.work(job, told, cut(work, 1, job.slots, prefix=job.token[1][:8]))


def plain(task: Any) -> Any:
    """A Ray task as a plain function."""
    return SimpleNamespace(remote=task._function)


@contextmanager
def without_ray() -> Iterator[None]:
    """Runs within it are of this process alone."""
    here = SimpleNamespace(
        get=lambda found, timeout=None: found,
        put=lambda found: found,
        cluster_resources=lambda: {"CPU": 1},
        util=SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1"),
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "here"),
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (aggregate, board, judging, replica, tasks, watching):
            patch.setattr(module, "ray", here)
        patch.setattr(judging, "judge_shards", plain(judging.judge_shards))
        patch.setattr(aggregate, "summarise_family", plain(aggregate.summarise_family))
        patch.setattr(wave, "set_up", lambda: Handle(board.Board.__ray_metadata__.modified_class()))  # pyright: ignore
        patch.setattr(wave, "gpus_each", lambda wanted: 0)
        patch.setattr(wave, "execute", execute)
        patch.setattr(watching, "living", dict)
        for module in (driver, vectors):
            patch.setattr(module, "enter", lambda *_: None)
            patch.setattr(module, "Crew", Crew)
        yield


def run_here(*args, **options) -> driver.Outcome:
    """`driver.run` in this process alone, and no report."""
    with without_ray(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "publish", lambda folder: None)
        return driver.run(*args, **options)
