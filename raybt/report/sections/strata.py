"""Accuracy and onsets: are completions in which the model backtracks more often right?"""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, share
from raybt.report.families import Family, families, widest_baseline
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.wording import code, count, is_missing, percent, plain, plural, points_in_words

MOST = 24  # conditions in a table
WITH, WITHOUT, DIFFERENCE = "with", "without", "difference"


def blocks(results: Results) -> list[Block]:
    found = list(families(results, "strata", list(results.study["strata"]), MOST)) if "strata" in results.study else []
    lead = _lead(*widest_baseline(results, "strata"))
    return [*([Paragraph(lead)] if lead else []), *map(_table, found)]


def _lead(rows: list[TableRow], of: str) -> str:
    by_place = {(row["basis"], row["stratum"]): row for row in rows}
    places = (("all", WITH), ("all", WITHOUT), ("by problem", DIFFERENCE))
    with_one, without, apart = (by_place.get(place) for place in places)
    if with_one is None or without is None or is_missing(with_one["accuracy"]) or is_missing(without["accuracy"]):
        return ""
    return (
        f"Of the {of} {percent(with_one['accuracy'])} of the {count(with_one['done'])} with an onset are right, and "
        f"{percent(without['accuracy'])} of the {count(without['done'])} without. {_within(apart)}"
    )


def _within(row: TableRow | None) -> str:
    if row is None or is_missing(row["accuracy"]):
        return "No problem has both kinds, so the two can't be compared like with like."
    problems = plural(int(row["problems"]), "problem")
    compared = f"Within the {problems} that have both kinds the difference is {points_in_words(row, 'accuracy')}"
    if is_missing(row["accuracy_low"]) or row["accuracy_low"] <= 0 <= row["accuracy_high"]:
        return f"{compared}: too little to say that either kind is more often right."
    side = "more" if row["accuracy"] > 0 else "less"
    return f"{compared}: with the problem held equal, completions with an onset are {side} often right."


def _table(family: Family) -> Table:
    heads = columns("Condition", numbers=(
        "With an onset, done", "Accuracy, all", "Accuracy, answered", "Without, done", "Accuracy, all",
        "Accuracy, answered", "Difference by problem, points", "Problems with both",
    ))  # fmt: skip
    rest = f" ({plural(family.hidden, 'further condition')} in tables/strata.parquet)" if family.hidden else ""
    caption = f"{family.where[:1].upper()}{family.where[1:]}: accuracy with and without an onset{rest}"
    return Table(plain(caption), heads, tuple(_row(family, *part) for part in family.by_condition.items()))


def _row(family: Family, name: str, rows: list[TableRow]) -> Row:
    found = {(row["basis"], row["stratum"]): row for row in rows}
    sides = [cell for stratum in (WITH, WITHOUT) for cell in _side(found, stratum)]
    apart = found.get(("by problem", DIFFERENCE))
    within = (change(apart, "accuracy"), Cell(count(apart["problems"]))) if apart else (Cell(""), Cell(""))
    tone = "collapsed" if name in family.collapsed else "baseline" if is_baseline(rows[0]) else ""
    return Row((Cell(code(name)), *sides, *within), tone)


def _side(found: dict[tuple, TableRow], stratum: str) -> tuple[Cell, ...]:
    every, answered = found.get(("all", stratum)), found.get(("answered", stratum))
    return (
        Cell(count(every["done"]) if every else ""),
        share(every, "accuracy") if every else Cell(""),
        share(answered, "accuracy") if answered else Cell(""),
    )
