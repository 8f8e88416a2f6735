"""A replica: one model on one device, an actor that stays up between waves, runs blocks and commits its own shards."""

import asyncio
import os
import secrets
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray

from raybt.errors import UserError
from raybt.fleet.board import wait_confirmed
from raybt.fleet.desk import Desk
from raybt.fleet.job import BANK, DONE, PROBES, TEXTS_FILE, TOKENS, Job, parse_positions, unpack
from raybt.fleet.loading import check_widths, load_anatomy
from raybt.fleet.probing import Probe
from raybt.plan.sites import parse_canonical
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, FAILURES, PROMPTS
from raybt.store.schemas.study import TEXTS
from raybt.store.shards import COMPLETED, KINDS, commit_failures, commit_rows, committed_in_block

COMMIT_EVERY = 5.0
"""Seconds between commits of a block's finished rows: the most that a kill can cost beside the rows in flight."""


class Replica:
    """Runs blocks, several at once; each commits its rows and gives back only counts.

    The model is loaded once, whatever the number of waves. Each wave has a job and a board of its own; the first block
    of a wave opens its job. A replica that Ray started again after a death does the same.
    """

    def __init__(self):
        self.name = f"{ray.util.get_node_ip_address()}-{os.getpid()}"
        self.anatomy: Any = None
        self.job: Job | None = None
        self.desk: Desk | None = None
        self.opening = asyncio.Lock()

    async def run(self, job: Job, board, batch: pa.Table) -> pa.Table:
        """Run one block, a row of schema BLOCK; gives schema DONE."""
        async with self.opening:
            if self.job is None or self.job.token != job.token:
                self._begin(job, board)
        block, rows = batch["block"][0].as_py(), unpack(batch["rows"][0].as_py())
        count = failed = 0
        with self._refusing():
            if not self.refused:
                committed, part = committed_in_block(self.folder, block)
                missing = [row for row in rows.to_pylist() if row["key"] not in committed]
                requests = [self._request(row) for row in missing if row["kind"] not in PROBES]
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
    def _refusing(self) -> Iterator[None]:
        """A user's mistake is told to the driver, and all later blocks are given back undone.

        Raised here, Ray would print it as a crash, once for every process that it passes through.
        """
        try:
            yield
        except UserError as error:
            self.refused = True
            ray.get(self.board.refuse.remote(error))

    def _begin(self, job: Job, board) -> None:
        """Make ready for a wave."""
        self.job, self.board, self.refused = job, board, False
        with self._refusing():
            self.folder = RunFolder(job.root)
            self._prove_shared_storage()
            self.prompts, self.texts = self._read_prompts(), self._read_texts()
            if self.desk:
                self.desk.close()
            decoder = self._decoder(job)
            self.desk = Desk(decoder, lambda *counts: self.board.add.remote(*counts), self._die, self._note)
            ray.get(self.board.join.remote(self.name, self.numerics))

    def _model(self, job: Job):
        """The model, loaded once: every wave of a run has the same."""
        self.anatomy = self.anatomy or load_anatomy(job)
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

    def _read_prompts(self) -> list[tuple[int, ...]]:
        table = self.folder.read_table("prompts.parquet", PROMPTS, ["token_ids"])
        return [tuple(ids) for ids in table["token_ids"].to_pylist()]

    def _read_texts(self) -> list[tuple[int, tuple[int, ...]]]:
        """(tokens of its prompt, all its tokens) of each text that measurements read."""
        if not self.folder.exists(TEXTS_FILE):
            return []
        table = self.folder.read_table(TEXTS_FILE, TEXTS).select(["prompt_tokens", "token_ids"])
        return [(row["prompt_tokens"], tuple(row["token_ids"])) for row in table.to_pylist()]

    def _decoder(self, job: Job):
        from raybt.engine.decode import Decoder
        from raybt.engine.load import numerics_class
        from raybt.engine.memory import fit_slots
        from raybt.engine.request import Sampling

        anatomy = self._model(job)
        slots = fit_slots(anatomy, job.length, job.slots)
        self.numerics = numerics_class(anatomy, slots)
        bank = self._bank(anatomy, job)
        self.probe = Probe(anatomy, bank, self.texts, {"replica": self.name, "numerics": self.numerics})
        rule = job.sampling
        sampling = Sampling(rule.temperature, rule.top_p, rule.top_k, rule.greedy)
        return Decoder(anatomy, sampling, slots, job.length, bank, job.triggers)

    def _bank(self, anatomy, job: Job):
        import torch
        from safetensors.numpy import load

        from raybt.engine.bank import Bank

        kept = load(self.folder.read(BANK)) if self.folder.exists(BANK) else {}
        check_widths(anatomy, job.sites_of, {name: vector.shape[-1] for name, vector in kept.items()})
        return Bank({name: torch.from_numpy(vector) for name, vector in kept.items()}, anatomy.device)

    def _note(self, text: str) -> None:
        self.board.note.remote(f"replica {self.name}: {text}")

    def _die(self, error: BaseException) -> None:
        """The engine broke: say why, then end the process, so that Ray starts another a finite number of times."""
        trace = "".join(traceback.format_exception(error))
        ray.get(self.board.note.remote(f"replica {self.name} died: {trace[-2000:]}"))
        os._exit(1)

    def _request(self, row: dict):
        from raybt.engine.request import Request, Term

        terms = tuple(Term(*term) for term in parse_canonical(row["intervention"]))
        positions, window, _ = parse_positions(row["positions"])
        prompt = self._read(row)
        return Request(row["key"], prompt, row["max_new_tokens"], row["stream"], terms, positions, window=window)

    def _read(self, row: dict) -> tuple[int, ...]:
        """The tokens that a row continues: a prompt, or a text up to the row's token."""
        if row["kind"] == "completion":
            return self.prompts[row["prompt"]]
        prompt_tokens, tokens = self.texts[row["prompt"]]
        return tokens[: prompt_tokens + row["token"]]

    async def _measure(self, block: str, part: int, rows: list[dict]) -> int:
        """Lenses and scans, text by text, each text's committed when it is done. Gives the number of failed rows."""
        assert self.desk is not None
        failed = 0
        for kind, together in self.probe.texts_of(rows):
            measured = await self.desk.call(lambda kind=kind, together=together: self.probe.measure(kind, together))
            bad, good = measured
            if bad:
                commit_failures(self.folder, block, part, self._failed(bad))
            if good:
                commit_rows(self.folder, PROBES[kind], block, part, pa.Table.from_pylist(good, KINDS[PROBES[kind]]))
            failed, part = failed + len(bad), part + 1
            self.board.add.remote(len(together), 0, len(bad))
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
            commit_failures(self.folder, block, part, self._failed({done.key: done.error for done in bad}))
        if good:
            commit_rows(self.folder, COMPLETED, block, part, self._completions(good))
        return len(bad)

    def _failed(self, errors: dict[str, str]) -> pa.Table:
        rows = [{"key": key, "error": error, "replica": self.name} for key, error in errors.items()]
        return pa.Table.from_pylist(rows, schema=FAILURES)

    def _completions(self, good: list) -> pa.Table:
        rows = [
            {
                "key": done.key,
                "token_ids": done.token_ids,
                "finish_reason": done.finish_reason,
                "receipt": [{"site": site, "steps": steps} for site, steps in done.receipt.items()],
                "seconds": done.seconds,
                "replica": self.name,
                "numerics": self.numerics,
            }
            for done in good
        ]
        return pa.Table.from_pylist(rows, schema=COMPLETIONS)
