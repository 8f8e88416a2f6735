"""Committed rows: Parquet shards under `completions/` and `failures/`, written by replicas, each key read once.

A shard is `{block}-{part}.parquet`. A row is done when its shard is in place; there is no other ledger.
"""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, FAILURES

COMPLETED = "completions"
FAILED = "failures"
_READERS = 8  # an object store answers slowly, but many at once


@dataclass(frozen=True)
class Done:
    """What a run has.

    Args:
        keys: keys of committed completions.
        shards: names of their shards, in order.
        failed: key -> error, of rows that failed and have no completion.
        torn: (name, reason) of files that are no whole shard; set aside if the folder was repaired.
        repeated: (name, rows) of shards with keys that an earlier shard has; rewritten without them if repaired.
    """

    keys: set[str]
    shards: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    torn: list[tuple[str, str]] = field(default_factory=list)
    repeated: list[tuple[str, int]] = field(default_factory=list)


def done(folder: RunFolder, repair: bool = False) -> Done:
    """Look through the shards, reading only their keys.

    With `repair` (when no replica is writing) shards are read whole against their checksums, torn and foreign files are
    set aside, and keys that stand in two shards are taken out of the later one.
    """
    columns, torn = _read_all(folder, COMPLETED, COMPLETIONS, ["key"], thorough=repair)
    keys: set[str] = set()
    repeated: list[tuple[str, int]] = []
    for name, table in columns.items():
        extra = _add(keys, table["key"].to_pylist())
        if extra:
            repeated.append((name, extra))
    failed, torn_failures = _failures(folder, keys, thorough=repair)
    torn += torn_failures
    if repair:
        _repair(folder, list(columns), torn, repeated)
    shards = [name for name in columns if folder.exists(name)] if repair and repeated else list(columns)
    return Done(keys, shards, failed, torn, repeated)


def shard_name(block: str, part: int, kind: str = COMPLETED) -> str:
    return f"{kind}/{block}-{part:03d}.parquet"


def commit_completions(folder: RunFolder, block: str, part: int, table: pa.Table) -> str:
    """Write one shard of completions; gives its name."""
    name = shard_name(block, part)
    folder.commit_table(name, table, COMPLETIONS)
    return name


def commit_failures(folder: RunFolder, block: str, part: int, table: pa.Table) -> str:
    """Write one shard of failed rows; gives its name."""
    name = shard_name(block, part, FAILED)
    folder.commit_table(name, table, FAILURES)
    return name


def committed_in_block(folder: RunFolder, block: str) -> tuple[set[str], int]:
    """Keys that earlier attempts at a block committed, and the first part number that no attempt has used."""
    pattern = re.compile(rf"(?:{COMPLETED}|{FAILED})/{re.escape(block)}-([0-9]+)\.parquet")
    matches = [
        match for kind in (COMPLETED, FAILED) for name, _ in folder.list(kind) if (match := pattern.fullmatch(name))
    ]
    completed = [match[0] for match in matches if match[0].startswith(COMPLETED)]
    columns, _ = _read_some(folder, completed, COMPLETIONS, ["key"])
    keys = {key for table in columns.values() for key in table["key"].to_pylist()}
    return keys, max((int(match[1]) + 1 for match in matches), default=0)


def read_completions(folder: RunFolder, names: Sequence[str]) -> pa.Table:
    """The rows of these shards, in their order; schema COMPLETIONS.

    Raises:
        ValueError: a shard is torn.
        FileNotFoundError: a shard is gone.
    """
    tables = [_read_whole(folder, name) for name in names]
    return pa.concat_tables(tables) if tables else COMPLETIONS.empty_table()


def _read_whole(folder: RunFolder, name: str) -> pa.Table:
    try:
        return folder.read_table(name, COMPLETIONS)
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
        return (str(error).strip() or type(error).__name__).splitlines()[0]
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


def _repair(folder: RunFolder, shards: list[str], torn: list[tuple[str, str]], repeated: list[tuple[str, int]]) -> None:
    for name, _ in torn:
        folder.move_aside(name)
    if not repeated:
        return
    seen: set[str] = set()
    touched = {name for name, _ in repeated}
    for name in shards:
        if name in touched:
            _drop_repeated(folder, name, seen)
        else:
            seen.update(folder.read_table(name, COMPLETIONS, ["key"])["key"].to_pylist())


def _drop_repeated(folder: RunFolder, name: str, seen: set[str]) -> None:
    """Rewrite a shard with the first row of each key that is not in `seen`; adds its keys to `seen`."""
    table = folder.read_table(name, COMPLETIONS)
    keep = []
    for key in table["key"].to_pylist():
        keep.append(key not in seen)
        seen.add(key)
    if any(keep):
        folder.commit_table(name, table.filter(pa.array(keep)), COMPLETIONS)
    else:
        folder.remove(name)
