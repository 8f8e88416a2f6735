"""A replica: one model on one device, an actor that stays up between waves, runs blocks and commits its own shards."""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from raybt.errors import UserError
from raybt.fleet.board import wait_confirmed
from raybt.fleet.cause import cause_of
from raybt.fleet.desk import Desk
from raybt.fleet.job import DONE, PROBES, TOKENS, Job, unpack
from raybt.fleet.loading import load_anatomy
from raybt.fleet.probing import Probe
from raybt.fleet.reading import Reading, read_bank
from raybt.fleet.written import completions_table, failures_table
from raybt.store.folder import RunFolder
from raybt.store.shards import COMPLETED, KINDS, commit_failures, commit_rows, committed_in_block

COMMIT_EVERY = 5.0
"""Seconds between commits of a block's finished rows: the most that a kill can cost beside the rows in flight."""


class Replica:
    """Runs blocks, several at once; each commits its rows and gives back only counts.

    The model is loaded once, whatever the number of waves. Each wave has a job and a board of its own; the first block
    of a wave opens its job. A replica that Ray started again after a death does the same.

    Args:
        number: of its place in the crew; a process that Ray starts in another's stead has the same.
        hired: when the driver asked for it, by the clock of the driver's machine.
    """

    def __init__(self, number: int = 1, hired: float = 0.0):
        self.number, self.hired = number, hired
        self.name = f"{ray.util.get_node_ip_address()}-{os.getpid()}"
        self.node = ray.get_runtime_context().get_node_id()
        self.anatomy: Any = None
        self.job: Job | None = None
        self.board: Any = None
        self.desk: Desk | None = None
        self.opening = asyncio.Lock()
        self.running: dict[str, asyncio.Future] = {}
        self.seconds: dict[str, float] = {}
        self.doing = "starting"

    async def run(self, job: Job, board, batch: pa.Table) -> pa.Table:
        """Run one block, a row of schema BLOCK; gives schema DONE.

        A block that is asked for again while it runs, because who asked first is lost, is not run twice.
        """
        block = batch["block"][0].as_py()
        if block not in self.running:
            self.running[block] = asyncio.ensure_future(self._run(job, board, block, batch["rows"][0].as_py()))
            self.running[block].add_done_callback(lambda _: self.running.pop(block))
        return await asyncio.shield(self.running[block])

    async def _run(self, job: Job, board, block: str, packed: bytes) -> pa.Table:
        async with self.opening:
            if self.job is None or self.job.token != job.token:
                self._begin(job, board)
        count = failed = 0
        with self._telling("running its rows"):
            if not self.refused:
                committed, part = committed_in_block(self.folder, block)
                missing = [row for row in unpack(packed).to_pylist() if row["key"] not in committed]
                requests = [self.reading.request(row) for row in missing if row["kind"] not in PROBES]
                probes = [row for row in missing if row["kind"] in PROBES]
                failed = await self._decode(block, part, requests)
                failed += await self._measure(block, committed_in_block(self.folder, block)[1], probes)
                count = len(missing)
        return pa.table({"block": [block], "rows": [count], "failed": [failed]}, schema=DONE)

    async def read_sites(self, job: Job, *what) -> dict:
        """Vectors from sites' outputs: `vectors.make_sets`, with this replica's model.

        Raises:
            UserError: the model cannot be loaded.
        """
        from raybt.fleet.vectors import make_sets

        anatomy = self._model(job)
        return await self.desk.call(lambda: make_sets(anatomy, *what)) if self.desk else make_sets(anatomy, *what)

    @contextmanager
    def _telling(self, doing: str | None = None, rows: Sequence[str] = ()) -> Iterator[None]:
        """What goes wrong is told to the driver, and all later blocks are given back undone: no retry would mend it.

        Raised here, Ray would print it as a crash, once for every process that it passes through.
        """
        try:
            yield
        except UserError as error:
            self.refused = True
            ray.get(self.board.refuse.remote(error))
        except Exception as error:
            self.refused = True
            cause = cause_of(error, f"replica {self.name} broke while {doing or self.doing}", rows)
            ray.get(self.board.fail.remote(cause))

    def _now(self, phase: str, what: str = "") -> None:
        """Tell the driver what this replica does, and keep it, in case that it breaks meanwhile."""
        self.doing = f"{phase.split()[0]} {what}" if what else phase
        if self.board:
            self.board.phase.remote(self.number, phase)

    def _begin(self, job: Job, board) -> None:
        """Make ready for a wave."""
        self.job, self.board = job, board
        self.refused = not ray.get(board.enter.remote(self.number, self.name, self.node))
        if self.refused:
            return
        with self._telling():
            self._now("opening the run folder")
            self.folder = RunFolder(job.root)
            self._prove_shared_storage()
            self.reading = Reading(self.folder)
            self.desk = Desk(self._decoder(job), self._wrote, self._die, self._note)
            for note in self.anatomy.notes:  # true of every replica, and kept once
                self.board.note.remote(note)
            ray.get(self.board.join.remote(self.name, self.numerics, self.seconds, self.hired))
            self.seconds = {}

    def _model(self, job: Job):
        """The model, loaded once: every wave of a run has the same."""
        if self.anatomy is None:
            since: dict[str, float] = {}

            def told(phase: str) -> None:
                since[phase.split()[0]] = time.monotonic()  # the last proof is that of the sites
                self._now(phase, job.path)

            self.anatomy = load_anatomy(job, told)
            loaded, proved = since["proving"] - since["loading"], time.monotonic() - since["proving"]
            self.seconds = {"load_seconds": round(loaded, 2), "prove_seconds": round(proved, 2)}
        return self.anatomy

    def _prove_shared_storage(self) -> None:
        """Read the driver's token and have the driver read ours: else rows would be committed where nobody looks."""
        assert self.job is not None
        name, content = self.job.token
        mine, secret = f"{TOKENS}replica-{secrets.token_hex(8)}", secrets.token_hex(16)
        readable = self.folder.exists(name) and self.folder.read(name) == content.encode()
        if readable:
            self.folder.commit(mine, secret.encode())
            ray.get(self.board.announce.remote(mine, secret))
            readable = wait_confirmed(self.board, mine)
        if not readable:
            raise UserError(
                "driver and replicas must share the run folder",
                f"{self.job.root} on {self.name} is another folder than the driver's",
                "set artifacts to a shared file system or an s3:// or gs:// URI",
            )

    def _decoder(self, job: Job):
        """Slots for a wave's rows: those of the wave before, and all that was captured for them, where they serve."""
        from raybt.engine.decode import Decoder
        from raybt.engine.load import numerics_class
        from raybt.engine.memory import fit_slots
        from raybt.engine.request import Sampling

        anatomy, rule = self._model(job), job.sampling
        self._now("making slots")
        sampling = Sampling(rule.temperature, rule.top_p, rule.top_k, rule.greedy)
        bank, desk, self.desk = read_bank(self.folder, anatomy, job), self.desk, None
        decoder = desk.leave() if desk else None
        if decoder and decoder.serves(sampling, job.slots, job.length, job.triggers):
            decoder.adopt(bank)
        else:
            if decoder:
                decoder.close()
            del desk, decoder  # their memory counts as free
            slots = fit_slots(anatomy, job.length, job.slots)
            self.numerics = numerics_class(anatomy, slots)
            decoder = Decoder(anatomy, sampling, slots, job.length, bank, job.triggers)
        self.probe = Probe(anatomy, bank, self.reading.texts, {"replica": self.name, "numerics": self.numerics})
        self._now(f"ready, {len(decoder.requests)} slots")
        return decoder

    def _wrote(self, tokens: int) -> None:
        self.board.write.remote(self.name, tokens)

    def _note(self, text: str) -> None:
        self.board.note.remote(f"replica {self.name}: {text}")

    def _die(self, error: BaseException) -> None:
        """The engine broke: say why, then end the process, so that Ray starts another a finite number of times."""
        try:
            assert self.desk is not None
            rows = [request.key for request in self.desk.decoder.requests if request is not None]
            cause = cause_of(error, f"replica {self.name} died while decoding", rows)
            ray.get(self.board.die.remote(self.number, cause))
        finally:
            os._exit(1)

    async def _measure(self, block: str, part: int, rows: list[dict]) -> int:
        """Lenses and scans, text by text, each text's committed when it is done. Gives the number of failed rows."""
        assert self.desk is not None
        failed = 0
        for kind, together in self.probe.texts_of(rows):
            with self._telling(f"measuring a {kind}", [row["key"] for row in together]):
                bad, good = await self.desk.call(partial(self.probe.measure, kind, together))
                if bad:
                    commit_failures(self.folder, block, part, failures_table(bad, self.name))
                if good:
                    commit_rows(self.folder, PROBES[kind], block, part, pa.Table.from_pylist(good, KINDS[PROBES[kind]]))
                failed, part = failed + len(bad), part + 1
                self.board.add.remote(self.name, len(together), 0, len(bad))
            if self.refused:
                break
        return failed

    async def _decode(self, block: str, part: int, requests: list) -> int:
        """Await a block's rows, committing what is finished every few seconds. Gives the number of failed rows."""
        assert self.desk is not None
        outbox = self.desk.submit(requests)
        finished, failed, since = [], 0, time.monotonic()
        for left in range(len(requests) - 1, -1, -1):
            finished.append(await outbox.get())
            if left == 0 or time.monotonic() - since > COMMIT_EVERY:
                failed += self._commit(block, part, finished)
                finished, part, since = [], part + 1, time.monotonic()
        return failed

    def _commit(self, block: str, part: int, finished: list) -> int:
        good = [done for done in finished if done.error is None]
        bad = [done for done in finished if done.error is not None]
        if bad:
            commit_failures(self.folder, block, part, failures_table({done.key: done.error for done in bad}, self.name))
        if good:
            commit_rows(self.folder, COMPLETED, block, part, completions_table(good, self.name, self.numerics))
        tokens = sum(len(done.token_ids) for done in finished)
        self.board.add.remote(self.name, len(finished), tokens, len(bad))
        return len(bad)
