"""Rows and waves as their users know them."""

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from raybt.fleet.cause import Cause
from raybt.plan.rows import Plan

NAMES = ["stage", "condition", "variant", "problem", "sample"]


def name_rows(plan: Plan, keys: set[str], most: int = 5) -> tuple[str, ...]:
    """Stage, condition, variant, problem and sample of the first few; a row that several stages share once."""
    if not keys:
        return ()
    rows = pa.concat_tables(table.select([*NAMES, "key"]) for table in (plan.rows, plan.measurements))
    rows = rows.filter(pa.array([key in keys for key in rows["key"].to_pylist()], pa.bool_()))
    named: dict[str, str] = {}
    for row in rows.to_pylist():
        named.setdefault(row["key"], " / ".join(str(row[name]) for name in NAMES if row[name] is not None))
    shown = tuple(named.values())
    return (*shown[:most], f"and {len(shown) - most:,} more") if len(shown) > most else shown


def with_rows_named(cause: Cause, plan: Plan) -> Cause:
    return replace(cause, rows=name_rows(plan, set(cause.rows), most=3))


def name_wave(number: int, plan: Plan, keys: Iterable[str]) -> str:
    """`wave 2 (scan, lens)`; a row that several stages share counts for the first of them."""
    left, stages = set(keys), []
    for table in (plan.rows, plan.measurements):
        for stage, key in zip(table["stage"].to_pylist(), table["key"].to_pylist(), strict=True):
            if key in left:
                left.remove(key)
                stages.append(stage)
    return f"wave {number} ({listed(list(dict.fromkeys(stages)))})"


def listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
