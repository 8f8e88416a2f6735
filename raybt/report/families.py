"""Rows of a study's table that belong in one figure: one stage under one prompt variant."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from raybt.report.results import (
    Results,
    TableRow,
    groups,
    is_collapsed,
    is_control,
    select,
    study_groups,
)
from raybt.report.shown import furthest
from raybt.report.wording import plain


@dataclass(frozen=True)
class Family:
    """`rows` are of the conditions that are shown, `data` of all that the table holds; controls are in neither."""

    stage: str
    variant: str
    alone: bool  # whether the table has one variant, so that it needs no name
    rows: list[TableRow]
    data: pd.DataFrame
    hidden: int
    collapsed: frozenset[str]

    @property
    def name(self) -> str:
        return self.stage if self.alone else f"{self.stage}_{self.variant}"

    @property
    def where(self) -> str:
        return plain(f"stage {self.stage}" + ("" if self.alone else f", variant {self.variant}"))

    @property
    def by_condition(self) -> dict[str, list[TableRow]]:
        found: dict[str, list[TableRow]] = {}
        for row in self.rows:
            found.setdefault(row["condition"], []).append(row)
        return found

    def called(self, condition: str) -> str:
        return f"{condition} (collapsed)" if condition in self.collapsed else condition


def families(results: Results, table: str, columns: list[str], most: int) -> Iterator[Family]:
    """At most `most` conditions beside the baseline are shown of each; `columns` are the data's."""
    variants = {row["variant"] for _, rows in study_groups(results, table, "stage") for row in rows}
    for (stage, variant), rows in study_groups(results, table, "stage", "variant"):
        known = _conditions(results, stage, variant)
        controls = {row["condition"] for row in known if is_control(row)}
        rows = [row for row in rows if row["condition"] not in controls]
        names, hidden = _shown(known, list(dict.fromkeys(row["condition"] for row in rows)), most)
        data = select(select(results.study[table], "stage", stage), "variant", variant)
        yield Family(
            stage=stage,
            variant=variant,
            alone=len(variants) == 1,
            rows=[row for row in rows if row["condition"] in names],
            data=data.loc[~data["condition"].isin(controls), columns],
            hidden=hidden,
            collapsed=frozenset(row["condition"] for row in known if is_collapsed(row)),
        )


def _conditions(results: Results, stage: str, variant: str) -> list[TableRow]:
    return [row for (s, v), rows in groups(results.conditions, "stage", "variant") if (s, v) == (stage, variant)
            for row in rows]  # fmt: skip


def _shown(known: list[TableRow], names: list[str], most: int) -> tuple[set[str], int]:
    here = [row for row in known if row["condition"] in names]
    kept = {row["condition"] for row in furthest(here, most)[0]} or set(names[: most + 1])
    return kept, len(names) - len(kept)
