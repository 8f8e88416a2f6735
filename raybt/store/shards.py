"""Committed rows: Parquet shards in a folder for each kind, and `failures/`, written by replicas, each key read once.

A shard is `{block}-{part}.parquet`. A row is done when its shard is in place; there is no other ledger.
"""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from raybt.errors import first_line
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, FAILURES
from raybt.store.schemas.study import LENSES, SCANS

COMPLETED, LENSED, SCANNED = "completions", "lenses", "scans"
FAILED = "failures"
KINDS = {COMPLETED: COMPLETIONS, LENSED: LENSES, SCANNED: SCANS}
_READERS = 8  # an object store answers slowly, but many at once


@dataclass(frozen=True)
class Done:
    """What a run has.

    Args:
        keys: keys of committed rows of every kind.
        shards: names of the completions' shards, in order.
        failed: key -> error, of rows that failed and have no completion.
        torn: (name, reason) of files that are no whole shard; set aside if the folder was repaired.
        repeated: (name, rows) of shards with keys that an earlier shard has; rewritten without them if repaired.
    """

    keys: set[str]
    shards: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    torn: list[tuple[str, str]] = field(default_factory=list)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    measured: dict[str, list[str]] = field(default_factory=dict)
    """Kind -> names of the shards of measurements."""


def done(folder: RunFolder, repair: bool = False) -> Done:
    """Look through the shards, reading only their keys.

    With `repair` (when no replica is writing) shards are read whole against their checksums, torn and foreign files are
    set aside, and keys that stand in two shards are taken out of the later one.
    """
    keys: set[str] = set()
    torn: list[tuple[str, str]] = []
    repeated: list[tuple[str, int]] = []
    shards: dict[str, list[str]] = {}
    for kind in KINDS:
        columns, broken = _read_all(folder, kind, KINDS[kind], ["key"], thorough=repair)
        torn += broken
        counts = [(name, _add(keys, table["key"].to_pylist())) for name, table in columns.items()]
        twice = [(name, extra) for name, extra in counts if extra]
        repeated += twice
        if repair and twice:
            _drop_repeats(folder, kind, list(columns), {name for name, _ in twice})
        shards[kind] = [name for name in columns if folder.exists(name)] if repair and twice else list(columns)
    failed, torn_failures = _failures(folder, keys, thorough=repair)
    torn += torn_failures
    for name, _ in torn if repair else ():
        folder.move_aside(name)
    return Done(keys, shards.pop(COMPLETED), failed, torn, repeated, shards)


def shard_name(block: str, part: int, kind: str = COMPLETED) -> str:
    return f"{kind}/{block}-{part:03d}.parquet"


def commit_rows(folder: RunFolder, kind: str, block: str, part: int, table: pa.Table) -> str:
    """Write one shard of a kind's rows; gives its name."""
    name = shard_name(block, part, kind)
    folder.commit_table(name, table, KINDS[kind])
    return name


def commit_failures(folder: RunFolder, block: str, part: int, table: pa.Table) -> str:
    """Write one shard of failed rows; gives its name."""
    name = shard_name(block, part, FAILED)
    folder.commit_table(name, table, FAILURES)
    return name


def committed_in_block(folder: RunFolder, block: str) -> tuple[set[str], int]:
    """Keys that earlier attempts at a block committed, and the first part number that no attempt has used."""
    folders = (*KINDS, FAILED)
    pattern = re.compile(rf"(?:{'|'.join(folders)})/{re.escape(block)}-([0-9]+)\.parquet")
    matches = [match for kind in folders for name, _ in folder.list(kind) if (match := pattern.fullmatch(name))]
    keys: set[str] = set()
    for kind, schema in KINDS.items():
        names = [match[0] for match in matches if match[0].startswith(f"{kind}/")]
        columns, _ = _read_some(folder, names, schema, ["key"])
        keys.update(key for table in columns.values() for key in table["key"].to_pylist())
    return keys, max((int(match[1]) + 1 for match in matches), default=0)


def read_completions(folder: RunFolder, names: Sequence[str]) -> pa.Table:
    """The rows of these shards, in their order; schema COMPLETIONS.

    Raises:
        ValueError: a shard is torn.
        FileNotFoundError: a shard is gone.
    """
    return read_rows(folder, COMPLETED, names)


def read_rows(folder: RunFolder, kind: str, names: Sequence[str]) -> pa.Table:
    """The rows of these shards of one kind, in their order; raises as `read_completions`."""
    tables = [_read_whole(folder, name, KINDS[kind]) for name in names]
    return pa.concat_tables(tables) if tables else KINDS[kind].empty_table()


def _read_whole(folder: RunFolder, name: str, schema: pa.Schema) -> pa.Table:
    try:
        return folder.read_table(name, schema)
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder.root}: {name} is torn ({error})") from None


def _read_all(
    folder: RunFolder, kind: str, schema: pa.Schema, columns: list[str], thorough: bool
) -> tuple[dict[str, pa.Table], list[tuple[str, str]]]:
    return _read_some(folder, [name for name, _ in folder.list(kind)], schema, columns, thorough)


def _read_some(
    folder: RunFolder, names: Iterable[str], schema: pa.Schema, columns: list[str], thorough: bool = False
) -> tuple[dict[str, pa.Table], list[tuple[str, str]]]:
    """(name -> columns of the whole shards, (name, reason) of the others)."""

    def read(name: str) -> pa.Table | str:
        if not name.endswith(".parquet"):
            return "not a Parquet file"
        return _read_or_reason(folder, name, schema, columns, thorough)

    names = list(names)
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(zip(names, pool.map(read, names), strict=True))
    whole = {name: table for name, table in found if isinstance(table, pa.Table)}
    return whole, [(name, reason) for name, reason in found if isinstance(reason, str)]


def _read_or_reason(
    folder: RunFolder, name: str, schema: pa.Schema, columns: list[str], thorough: bool
) -> pa.Table | str:
    try:
        table = folder.read_table(name, schema, None if thorough else columns).select(columns)
    except (ValueError, OSError) as error:  # Arrow's own errors are kinds of these
        folder.read(name)  # bytes that cannot be fetched are an outage, which raises here: that shard may be whole
        return first_line(error)
    return "rows without a key" if table["key"].null_count else table


def _add(keys: set[str], new: list[str]) -> int:
    """Add to `keys`; gives how many were there before, or twice in `new`."""
    before = len(keys)
    keys.update(new)
    return len(new) - (len(keys) - before)


def _failures(folder: RunFolder, done: set[str], thorough: bool) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """(key -> an error, of rows without a completion; torn files)."""
    tables, torn = _read_all(folder, FAILED, FAILURES, ["key", "error"], thorough)
    errors = {row["key"]: row["error"] for table in tables.values() for row in table.to_pylist()}
    return {key: error for key, error in errors.items() if key not in done}, torn


def _drop_repeats(folder: RunFolder, kind: str, shards: list[str], touched: set[str]) -> None:
    """Rewrite the shards of `touched` without the keys that an earlier shard has."""
    seen: set[str] = set()
    for name in shards:
        if name in touched:
            _drop_repeated(folder, kind, name, seen)
        else:
            seen.update(folder.read_table(name, KINDS[kind], ["key"])["key"].to_pylist())


def _drop_repeated(folder: RunFolder, kind: str, name: str, seen: set[str]) -> None:
    """Rewrite a shard with the first row of each key that is not in `seen`; adds its keys to `seen`."""
    table = folder.read_table(name, KINDS[kind])
    keep = []
    for key in table["key"].to_pylist():
        keep.append(key not in seen)
        seen.add(key)
    if any(keep):
        folder.commit_table(name, table.filter(pa.array(keep)), KINDS[kind])
    else:
        folder.remove(name)
