"""What a report is written from, and how its rows are chosen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from raybt.config import BASELINE
from raybt.report.wording import code, is_missing

TableRow = dict[str, Any]

CONTROL, DIRECTION = "control", "direction"  # roles of conditions: a matched random subset, a random direction


@dataclass(frozen=True)
class Results:
    """A run's finished tables and its records. Shares are 0 to 1; spans are character offsets into their side's text.

    Args:
        config: the resolved config, made of plain dicts, lists and scalars.
        manifest: the run's record; `raybt.report.provenance` lists the keys it reads, each of them optional.
        conditions: one row a (stage, condition, variant), columns as in `store.schemas.CONDITION_TABLE`.
        contrasts: one row a (stage, condition, variant, measure), columns as in `CONTRAST_TABLE`.
        examples: one row a pair of completions, columns as in `EXAMPLE_TABLE`.
        study: further tables by their names in `STUDY_TABLES`; absent or empty where the config has no such stage.
        decisions: what was decided between waves, columns as in `DECISIONS`; None where nothing was.
    """

    config: dict[str, Any]
    manifest: dict[str, Any]
    conditions: pd.DataFrame
    contrasts: pd.DataFrame
    examples: pd.DataFrame
    study: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    decisions: pd.DataFrame | None = None


def rows_of(table: pd.DataFrame) -> list[TableRow]:
    """Column by column, since pandas' own `to_dict` looks every column up for every row."""
    names = [str(name) for name in table.columns]
    values = zip(*(table[name].tolist() for name in table.columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def study_rows(results: Results, name: str) -> list[TableRow]:
    """Rows of one of the study's tables; none where there is no such table."""
    return rows_of(results.study[name]) if name in results.study else []


def study_groups(results: Results, name: str, *columns: str) -> Iterator[tuple[tuple[Any, ...], list[TableRow]]]:
    """Rows of one of the study's tables that agree in `columns`; nothing where there is no such table."""
    yield from groups(results.study.get(name, pd.DataFrame()), *columns)


def without_controls(results: Results) -> Results:
    """Baseline and targets alone. Controls have no finding of their own: they say how large chance effects are."""
    controls = {(row["stage"], row["condition"]) for row in rows_of(results.conditions) if is_control(row)}
    tables = {name: _outside(getattr(results, name), controls) for name in ("conditions", "contrasts", "examples")}
    return replace(results, **tables)


def _outside(table: pd.DataFrame, controls: set[tuple[str, str]]) -> pd.DataFrame:
    places = zip(table["stage"], table["condition"], strict=True)
    return table.loc[[place not in controls for place in places]]


def select(table: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """Rows whose `column` is `value`, in the table's order."""
    return table.loc[table[column] == value, :]


def groups(table: pd.DataFrame, *columns: str) -> Iterator[tuple[tuple[Any, ...], list[TableRow]]]:
    """Rows that agree in `columns`, in the table's own order: ((stage, variant), rows)."""
    found: dict[tuple[Any, ...], list[TableRow]] = {}
    for row in rows_of(table):
        found.setdefault(tuple(row[name] for name in columns), []).append(row)
    yield from found.items()


def variants_of(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(row["variant"] for row in rows_of(table)))


def several_stages(results: Results) -> bool:
    return results.conditions["stage"].nunique() > 1


def is_baseline(row: TableRow) -> bool:
    return row["condition"] == BASELINE


def is_control(row: TableRow) -> bool:
    return row.get("role") in (CONTROL, DIRECTION)


def is_collapsed(row: TableRow) -> bool:
    return not is_missing(row["collapsed"]) and bool(row["collapsed"])


def is_mixed(row: TableRow) -> bool:
    """A contrast whose two sides were made under different numerics."""
    return not is_missing(row["mixed_numerics"]) and bool(row["mixed_numerics"])


def baseline_of(rows: list[TableRow]) -> TableRow | None:
    return next((row for row in rows if is_baseline(row)), None)


def named(row: TableRow, variants: list[str]) -> str:
    """A condition's name in a sentence, with its variant where a run has several."""
    return code(row["condition"]) + (f" with variant {code(row['variant'])}" if len(variants) > 1 else "")
