"""Accuracy and onsets: are completions in which the model backtracks more often right?"""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, share
from raybt.report.families import Family, families
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.wording import code, count, is_missing, percent, plain, plural, points_in_words

MOST = 24  # conditions in a table
WITH, WITHOUT, DIFFERENCE = "with", "without", "difference"


def blocks(results: Results) -> list[Block]:
    found = list(families(results, "strata", list(results.study["strata"]), MOST)) if "strata" in results.study else []
    sentences = list(dict.fromkeys(text for family in found if (text := _sentence(family))))
    lead = [Paragraph(" ".join(sentences))] if sentences else []
    return [*lead, *map(_table, found)]


def _sentence(family: Family) -> str:
    """What is true of the baseline; stages that share it do not repeat it."""
    rows = {(row["basis"], row["stratum"]): row for row in family.rows if is_baseline(row)}
    with_one, without, apart = (
        rows.get(place) for place in (("all", WITH), ("all", WITHOUT), ("by problem", DIFFERENCE))
    )
    if with_one is None or without is None or is_missing(with_one["accuracy"]) or is_missing(without["accuracy"]):
        return ""
    under = "Under the baseline" if family.alone else f"Under the baseline with variant {code(family.variant)}"
    return (
        f"{under}, {percent(with_one['accuracy'])} of the {count(with_one['done'])} completions with an onset are "
        f"right, and {percent(without['accuracy'])} of the {count(without['done'])} without. {_within(apart)}"
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
    heads = columns("Condition", "Over", numbers=(
        "With an onset, done", "Accuracy", "Without, done", "Accuracy", "Difference, points", "Problems",
    ))  # fmt: skip
    rows = [
        _row(family, name, basis, rows)
        for name, rows in family.by_condition.items()
        for basis in dict.fromkeys(row["basis"] for row in rows)
    ]
    rest = f" ({plural(family.hidden, 'further condition')} in tables/strata.parquet)" if family.hidden else ""
    caption = f"{family.where[:1].upper()}{family.where[1:]}: accuracy with and without an onset{rest}"
    return Table(plain(caption), heads, tuple(rows))


def _row(family: Family, name: str, basis: str, rows: list[TableRow]) -> Row:
    found = {row["stratum"]: row for row in rows if row["basis"] == basis}
    sides = [
        cell
        for stratum in (WITH, WITHOUT)
        for cell in ((Cell(count(found[stratum]["done"])), share(found[stratum], "accuracy")))
    ]
    apart = change(found[DIFFERENCE], "accuracy") if DIFFERENCE in found else Cell("")
    problems = Cell(count(max(row["problems"] for row in found.values())))
    tone = "collapsed" if name in family.collapsed else "baseline" if is_baseline(rows[0]) else ""
    return Row((Cell(code(name)), Cell(plain(basis)), *sides, apart, problems), tone)
