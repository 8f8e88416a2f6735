"""Onsets along the text: when they come, where in the completion, and in which words."""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, counts, share
from raybt.report.families import Family, families
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.wording import code, count, is_missing, percent, plain, plural, points_in_words, text

MOST = 9  # conditions in a table
RISE_NAMED = 3


def blocks(results: Results) -> list[Block]:
    survival, placement, phrases = (_families(results, name) for name in ("survival", "placement", "phrases"))
    said = [*map(_halfway, survival), *map(_fullest, placement), *map(_commonest, phrases)]
    rises = [_rises(family) for family in phrases]
    sentences = list(dict.fromkeys(sentence for sentence in (*said, *rises) if sentence))
    lead = [Paragraph(" ".join(sentences))] if sentences else []
    return [*lead, *map(_table, phrases)]


def _families(results: Results, name: str) -> list[Family]:
    return list(families(results, name, list(results.study[name]), MOST)) if name in results.study else []


def _baseline(family: Family) -> list[TableRow]:
    return [row for row in family.rows if is_baseline(row)]


def _of_baseline(family: Family) -> str:
    return "baseline completions" + ("" if family.alone else f" with variant {code(family.variant)}")


def _halfway(family: Family) -> str:
    """By which token half of the completions have turned back, or how many ever do."""
    rows = [row for row in _baseline(family) if not is_missing(row["survival"])]
    if not rows:
        return ""
    half = next((row for row in rows if row["survival"] <= 0.5), None)
    if half is not None:
        return f"Half of the {_of_baseline(family)} have turned back by generated token {count(half['token'])}."
    last = rows[-1]
    return (
        f"Of the {_of_baseline(family)} {percent(last['survival'])} have not turned back by generated token "
        f"{count(last['token'])}."
    )


def _fullest(family: Family) -> str:
    rows = [row for row in _baseline(family) if not is_missing(row["share"])]
    if not rows:
        return ""
    most = max(rows, key=lambda row: row["share"])
    return (
        f"Most onsets of the {_of_baseline(family)} fall between {percent(most['start'])} and "
        f"{percent(most['end'])} of their length ({count(most['onsets'])} of {count(most['of'])})."
    )


def _commonest(family: Family) -> str:
    strict = [row for row in _baseline(family) if row["tier"] == "strict" and not is_missing(row["rate"])]
    if not strict:
        return ""
    most = max(strict, key=lambda row: row["rate"])
    return (
        f"The most common trigger is {code(most['phrase'])}, in {percent(most['rate'])} of the {_of_baseline(family)}."
    )


def _rises(family: Family) -> str:
    """Phrases that a condition clearly makes more common: a sign that words are replaced rather than the turn lost."""
    found = [row for row in family.rows if _has_risen(row) and row["condition"] not in family.collapsed]
    if not found:
        return ""
    found.sort(key=lambda row: -row["difference"])
    said = [
        f"{code(row['phrase'])} under {code(row['condition'])} {points_in_words(row, 'difference')}"
        for row in found[:RISE_NAMED]
    ]
    rest = len(found) - RISE_NAMED
    more = f"; and {count(rest)} more in the table" if rest > 0 else ""
    return f"Phrases that become more common in {family.where}: {'; '.join(said)}{more}."


def _has_risen(row: TableRow) -> bool:
    return not is_missing(row["difference_low"]) and row["difference_low"] > 0


def _table(family: Family) -> Table:
    heads = columns("Condition", "Phrase", "Tier", numbers=("Done", "Hold it", "Rate", "Difference, points"))
    rest = f" ({plural(family.hidden, 'further condition')} in tables/phrases.parquet)" if family.hidden else ""
    caption = f"{family.where[:1].upper()}{family.where[1:]}: phrases by condition{rest}"
    return Table(plain(caption), heads, tuple(_row(family, row) for row in family.rows))


def _row(family: Family, row: TableRow) -> Row:
    names = (Cell(code(row["condition"])), Cell(plain(row["phrase"])), Cell(plain(text(row["tier"]))))
    tone = "collapsed" if row["condition"] in family.collapsed else "baseline" if is_baseline(row) else ""
    return Row((*names, *counts(row, "done", "completions"), share(row, "rate"), change(row, "difference")), tone)
