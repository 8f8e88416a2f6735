"""Rows of a study's table that belong in one figure or table: one stage under one prompt variant."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from raybt.report.results import (
    Results,
    TableRow,
    is_baseline,
    is_collapsed,
    is_control,
    rows_of,
    select,
    study_groups,
)
from raybt.report.shown import furthest
from raybt.report.wording import code, is_missing, plain


@dataclass(frozen=True)
class Family:
    """`rows` are of the conditions that are shown, `data` of all that the table holds; controls are in neither.

    Where a stage has the baseline alone, under several variants, these are its conditions (`merged`).
    """

    stage: str
    name: str  # of the stage, and of the variant where the stage has several
    where: str  # the same in words
    rows: list[TableRow]
    data: pd.DataFrame
    hidden: int
    collapsed: frozenset[str]
    merged: bool = False

    @property
    def by_condition(self) -> dict[str, list[TableRow]]:
        found: dict[str, list[TableRow]] = {}
        for row in self.rows:
            found.setdefault(row["condition"], []).append(row)
        return found

    def called(self, condition: str) -> str:
        return f"{condition} (collapsed)" if condition in self.collapsed else condition


def families(results: Results, table: str, columns: list[str], most: int) -> Iterator[Family]:
    """At most `most` conditions beside the baseline are shown of each; `columns` are the data's.

    A stage that has nothing but the baseline under one variant, which others have as well, is left out.
    """
    stages = {stage: rows for (stage,), rows in study_groups(results, table, "stage")}
    several = len({row["variant"] for rows in stages.values() for row in rows}) > 1
    treated = {stage for stage, rows in stages.items() if not all(map(is_baseline, rows))}
    for stage, rows in stages.items():
        variants = list(dict.fromkeys(row["variant"] for row in rows))
        if stage in treated:
            yield from (_family(results, table, stage, v, columns, most, variants, several) for v in variants)
        elif len(variants) > 1:
            yield _merged(results, table, stage, rows, columns)
        elif not treated:
            yield _family(results, table, stage, variants[0], columns, most, variants, several)


def _family(
    results: Results, table: str, stage: str, variant: str, columns: list[str], most: int, variants: list, several: bool
) -> Family:
    known = conditions_of(results, stage, variant)
    controls = {row["condition"] for row in known if is_control(row)}
    data = select(select(results.study[table], "stage", stage), "variant", variant)
    data = data.loc[~data["condition"].isin(controls)]
    names, hidden = _shown(known, list(dict.fromkeys(data["condition"])), most)
    return Family(
        stage=stage,
        name=f"{stage}_{variant}" if len(variants) > 1 else stage,
        where=plain(f"stage {stage}, variant {variant}" if several else f"stage {stage}"),
        rows=[row for row in rows_of(data) if row["condition"] in names],
        data=data.loc[:, columns],
        hidden=hidden,
        collapsed=frozenset(row["condition"] for row in known if is_collapsed(row)),
    )


def _merged(results: Results, table: str, stage: str, rows: list[TableRow], columns: list[str]) -> Family:
    return Family(
        stage=stage,
        name=stage,
        where=plain(f"the baseline by prompt variant, stage {stage}"),
        rows=[{**row, "condition": row["variant"]} for row in rows],
        data=select(results.study[table], "stage", stage).loc[:, columns],
        hidden=0,
        collapsed=frozenset(),
        merged=True,
    )


def conditions_of(results: Results, stage: str, variant: str) -> list[TableRow]:
    table = results.conditions
    return rows_of(table.loc[(table["stage"] == stage) & (table["variant"] == variant)])


def _shown(known: list[TableRow], names: list[str], most: int) -> tuple[set[str], int]:
    here = [row for row in known if row["condition"] in names]
    kept = {row["condition"] for row in furthest(here, most)[0]} or set(names[: most + 1])
    return kept, len(names) - len(kept)


def widest_baseline(results: Results, table: str) -> tuple[list[TableRow], str]:
    """The baseline's rows under the first variant, of the stage with the most problems, and what they are of in words.

    Stages may have only half of the problems, so that their baselines differ.
    """
    first = next((row["variant"] for (_,), rows in study_groups(results, table, "stage") for row in rows), None)
    found = [
        (_problems(results, stage, variant), part)
        for (stage, variant), rows in study_groups(results, table, "stage", "variant")
        if variant == first and (part := [row for row in rows if is_baseline(row)])
    ]
    several = results.conditions["variant"].nunique() > 1
    words = "baseline completions" + (f" with variant {code(first)}" if several else "")
    return max(found, key=lambda one: one[0], default=(0, []))[1], words


def _problems(results: Results, stage: str, variant: str) -> int:
    counts = [row["problems"] for row in conditions_of(results, stage, variant) if is_baseline(row)]
    return max((int(n) for n in counts if not is_missing(n)), default=0)
