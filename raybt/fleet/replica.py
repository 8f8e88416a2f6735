"""A replica: one model on one device, a Ray Data actor that decodes blocks and commits its own shards."""

import os
import secrets
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import ray

from raybt.errors import UserError
from raybt.fleet.board import wait_confirmed
from raybt.fleet.desk import Desk
from raybt.fleet.job import BANK, DONE, PROBES, TEXTS_FILE, TOKENS, Job, parse_positions, unpack
from raybt.fleet.probing import Probe
from raybt.plan.fingerprint import LOCAL, fingerprint
from raybt.plan.sites import parse_canonical
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, FAILURES, PROMPTS
from raybt.store.schemas.study import TEXTS
from raybt.store.shards import COMPLETED, KINDS, commit_failures, commit_rows, committed_in_block

COMMIT_EVERY = 5.0
"""Seconds between commits of a block's finished rows: the most that a kill can cost beside the rows in flight."""


def verify(job: Job) -> None:
    """The model here must be the model that the rows' keys name.

    Raises:
        UserError: a local model's files differ on this node.
    """
    here = fingerprint(Path(job.path)) if job.fingerprint.startswith(LOCAL) else job.fingerprint
    if here != job.fingerprint:
        raise UserError(
            "every replica must load the model that the driver planned with",
            f"{job.path} is {here} here and {job.fingerprint} there",
            "copy the same files to every node, or use a shared folder or a hub id",
        )


def load_anatomy(job: Job):
    """The job's model on this process's device, verified and proved.

    Raises:
        UserError: it is another model than the driver's, or cannot be loaded.
    """
    import torch

    from raybt.engine.load import load_model

    verify(job)
    torch.set_num_threads(job.threads)
    return load_model(
        job.path,
        revision=job.revision,
        dtype=job.model.dtype,
        device=job.model.device,
        attention=job.model.attention,
        trust_remote_code=job.model.trust_remote_code,
        device_map=job.model.device_map,
    )


def check_widths(anatomy, sites_of: dict[str, str], widths: dict[str, int]) -> None:
    """Every vector must be as wide as what its site puts out.

    Raises:
        UserError: one is not.
    """
    hidden = anatomy.model.get_input_embeddings().weight.shape[1]
    for name, site in sites_of.items():
        heads = anatomy.head_width if site.startswith("head.") else hidden
        if widths.get(name, heads) != heads:
            raise UserError(
                f"a vector must be as wide as its site's output, {heads} at {site}",
                f"{widths[name]}",
                "make it from this model, or give it to sites of that width",
            )


class Replica:
    """Called with blocks, several at once; each call commits the block's rows and gives back only counts."""

    def __init__(self, job: Job, board):
        self.job, self.board = job, board
        self.name = f"{ray.util.get_node_ip_address()}-{os.getpid()}"
        self.refused = False
        with self._refusing():
            self._open()

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

    def _open(self) -> None:
        self.folder = RunFolder(self.job.root)
        self._prove_shared_storage()
        self.prompts, self.texts = self._read_prompts(), self._read_texts()
        decoder = self._load()
        self.desk = Desk(decoder, lambda *counts: self.board.add.remote(*counts), self._die, self._note)
        ray.get(self.board.join.remote(self.name, self.numerics, ray.get_runtime_context().current_actor))

    def _prove_shared_storage(self) -> None:
        """Read the driver's token and have the driver read ours: else rows would be committed where nobody looks."""
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

    def _load(self):
        from raybt.engine.decode import Decoder
        from raybt.engine.load import numerics_class
        from raybt.engine.memory import fit_slots
        from raybt.engine.request import Sampling

        job = self.job
        anatomy = load_anatomy(job)
        slots = fit_slots(anatomy, job.length, job.slots)
        self.numerics = numerics_class(anatomy, slots)
        bank = self._bank(anatomy)
        self.probe = Probe(anatomy, bank, self.texts, {"replica": self.name, "numerics": self.numerics})
        rule = job.sampling
        sampling = Sampling(rule.temperature, rule.top_p, rule.top_k, rule.greedy)
        return Decoder(anatomy, sampling, slots, job.length, bank, job.triggers)

    def _bank(self, anatomy):
        import torch
        from safetensors.numpy import load

        from raybt.engine.bank import Bank

        kept = load(self.folder.read(BANK)) if self.folder.exists(BANK) else {}
        check_widths(anatomy, self.job.sites_of, {name: vector.shape[-1] for name, vector in kept.items()})
        return Bank({name: torch.from_numpy(vector) for name, vector in kept.items()}, anatomy.device)

    def _note(self, text: str) -> None:
        self.board.note.remote(f"replica {self.name}: {text}")

    def _die(self, error: BaseException) -> None:
        """The engine broke: say why, then end the process, so that Ray starts another a finite number of times."""
        trace = "".join(traceback.format_exception(error))
        ray.get(self.board.note.remote(f"replica {self.name} died: {trace[-2000:]}"))
        os._exit(1)

    async def __call__(self, batch: pa.Table) -> pa.Table:
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
