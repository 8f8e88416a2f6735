"""What was decided between waves: kept with the run, reread on resume, never made again."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raybt.store.schemas.study import DECISIONS


@dataclass(frozen=True)
class Decision:
    """One decision.

    Args:
        name: what was decided, such as `events:scan`, `sites:targeted` or `search:search:1`.
        value: plain data.
        reason: one sentence for the report.
        made_from: hash of what it was decided from.
    """

    name: str
    value: Any
    reason: str
    made_from: str


class Decisions:
    """All decisions of a run, in the order in which they were made."""

    def __init__(self, made: Iterable[Decision] = ()):
        self._made = {decision.name: decision for decision in made}

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._made.values())

    def __len__(self) -> int:
        return len(self._made)

    def value(self, name: str) -> Any:
        """What was decided; None where nothing was yet."""
        return self._made[name].value if name in self._made else None

    def with_more(self, more: Iterable[Decision]) -> "Decisions":
        """These and others; a name that is there keeps its decision."""
        return Decisions([*self, *(decision for decision in more if decision.name not in self._made)])

    def table(self) -> pa.Table:
        """Schema DECISIONS."""
        rows = [{**vars(decision), "value": as_json(decision.value)} for decision in self]
        return pa.Table.from_pylist(rows, schema=DECISIONS)


def read_decisions(table: pa.Table) -> Decisions:
    return Decisions(Decision(**{**row, "value": json.loads(row["value"])}) for row in table.to_pylist())


def as_json(value: Any) -> str:
    """Canonical JSON: equal values give equal text."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def content_of(*parts: Any) -> str:
    """A hash of plain data: the `made_from` of a decision."""
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=12).hexdigest()
