"""What a replica needs to know, and how work is cut into blocks."""

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raybt import config
from raybt.store.shards import LENSED, SCANNED

BLOCKS_PER_REPLICA = 8
"""Blocks to aim for per replica: enough to share the work evenly, few enough to keep each at seconds of work."""
SMALLEST_BLOCK = 16
USUAL_SLOTS = 128  # to cut by, where each replica finds its own number
IN_FLIGHT = 4
"""Blocks a replica holds at once, so that its slots stay full while one block's last rows end."""

BANK = "bank.safetensors"  # the vectors that rows name, by content hash
TEXTS_FILE = "texts.parquet"  # what measurements read
PROBES = {"lens": LENSED, "scan": SCANNED}  # kinds of row that write no completion, and where they are kept
TOKENS = "storage-token-"  # files by which driver and replicas prove that they share storage

BLOCK = pa.schema([("block", pa.string()), ("rows", pa.binary())])
DONE = pa.schema([("block", pa.string()), ("rows", pa.int64()), ("failed", pa.int64())])


@dataclass(frozen=True)
class Job:
    """Everything a replica needs besides its blocks; travels to the actor whole.

    Args:
        root: the run folder, which every node must see.
        path, revision: the model as resolved by the driver.
        fingerprint: what the replica must find at `path`.
        length: longest prompt and new tokens together.
        token: file name and content that the replica must be able to read (shared storage).
        triggers: token-id n-grams for rows whose positions are `after_trigger`.
        sites_of: a vector's content hash -> one of the sites it is used at.
        measures: what the model must be fit for: `decode`, and the probes of any stage to come.
    """

    root: str
    model: config.Model
    path: str
    revision: str | None
    fingerprint: str
    sampling: config.Sampling
    slots: int | None
    threads: int
    length: int
    token: tuple[str, str]
    triggers: tuple[tuple[int, ...], ...] = ()
    sites_of: dict[str, str] = field(default_factory=dict)
    measures: tuple[str, ...] = ("decode",)


def cut(work: pa.Table, replicas: int, slots: int | None, prefix: str) -> list[pa.Table]:
    """Cut rows, already prompt-major, into blocks of one Arrow row each.

    One row a block, so that Ray Data neither splits nor joins them.

    Args:
        work: the rows to run, in order.
        prefix: names this wave's blocks apart from every other's.
    """
    even = -(-work.num_rows // (replicas * BLOCKS_PER_REPLICA))
    size = max(SMALLEST_BLOCK, min(even, 4 * (slots or USUAL_SLOTS)))
    starts = range(0, work.num_rows, size)
    return [_block(f"{prefix}-{i:05d}", work.slice(start, size)) for i, start in enumerate(starts)]


def _block(name: str, rows: pa.Table) -> pa.Table:
    return pa.table({"block": [name], "rows": [pack(rows)]}, schema=BLOCK)


def parse_positions(text: str | None) -> tuple[Any, tuple[int, int] | None, tuple[tuple[int, ...], ...]]:
    """(policy, window, triggers) of positions as they stand in tables; window and triggers only after triggers."""
    policy, _, rest = (text or "decode").partition(":")
    if not rest:
        return policy, None, ()
    window, ngrams = json.loads(rest)
    return policy, tuple(window), tuple(map(tuple, ngrams))


def pack(table: pa.Table) -> bytes:
    """A table as bytes (Arrow IPC stream); the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
