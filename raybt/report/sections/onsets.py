"""Onsets along the text: when they come, where in the completion, and in which words."""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, share
from raybt.report.families import Family, families, widest_baseline
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.wording import code, count, is_missing, percent, plain, plural, points, points_in_words, text

MOST = 9  # conditions in a table
RISE_NAMED = 3
STRICT = "strict"


def blocks(results: Results) -> list[Block]:
    phrases = _families(results, "phrases")
    said = (
        _halfway(*widest_baseline(results, "survival")),
        _fullest(*widest_baseline(results, "placement")),
        _commonest(*widest_baseline(results, "phrases")),
        *map(_rises, phrases),
    )
    lead = " ".join(filter(None, said))
    return [*([Paragraph(lead)] if lead else []), *map(_table, phrases)]


def _families(results: Results, name: str) -> list[Family]:
    return list(families(results, name, list(results.study[name]), MOST)) if name in results.study else []


def _halfway(rows: list[TableRow], of: str) -> str:
    """By which token half of the completions have turned back, or how many ever do."""
    rows = [row for row in rows if not is_missing(row["survival"])]
    if not rows:
        return ""
    half = next((row for row in rows if row["survival"] <= 0.5), None)
    if half is not None:
        return f"Half of the {of} have turned back by generated token {count(half['token'])}."
    last = rows[-1]
    return f"Of the {of} {percent(last['survival'])} have not turned back by generated token {count(last['token'])}."


def _fullest(rows: list[TableRow], of: str) -> str:
    rows = [row for row in rows if not is_missing(row["share"])]
    if not rows:
        return ""
    most = max(rows, key=lambda row: row["share"])
    return (
        f"Most onsets of the {of} fall between {percent(most['start'])} and {percent(most['end'])} of their length "
        f"({count(most['onsets'])} of {count(most['of'])})."
    )


def _commonest(rows: list[TableRow], of: str) -> str:
    strict = [row for row in rows if row["tier"] == STRICT and not is_missing(row["rate"])]
    if not strict:
        return ""
    most = max(strict, key=lambda row: row["rate"])
    return f"The most common trigger is {code(most['phrase'])}, in {percent(most['rate'])} of the {of}."


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
    """A column a phrase that occurs at all, strict triggers first."""
    phrases = {row["phrase"]: row["tier"] for row in family.rows if row["completions"] or row["tier"] == STRICT}
    titles = [f"{plain(phrase)}{_aside(tier)}" for phrase, tier in phrases.items()]
    rest = f" ({plural(family.hidden, 'further condition')} in tables/phrases.parquet)" if family.hidden else ""
    caption = (
        f"{family.where[:1].upper()}{family.where[1:]}: share of completions that hold a phrase, and its change in "
        f"points{rest}"
    )
    rows = tuple(_row(family, name, rows, list(phrases)) for name, rows in family.by_condition.items())
    return Table(plain(caption), columns("Condition", numbers=("Done", *titles)), rows)


def _aside(tier: str) -> str:
    return "" if tier == STRICT else f" ({plain(text(tier))})"


def _row(family: Family, name: str, rows: list[TableRow], phrases: list[str]) -> Row:
    found = {row["phrase"]: row for row in rows}
    cells = [_cell(found[phrase]) if phrase in found else Cell("") for phrase in phrases]
    tone = "collapsed" if name in family.collapsed else "baseline" if is_baseline(rows[0]) else ""
    return Row((Cell(code(name)), Cell(count(rows[0]["done"])), *cells), tone)


def _cell(row: TableRow) -> Cell:
    if is_missing(row["difference"]):
        return share(row, "rate")
    return Cell(percent(row["rate"]), f"{points(row['difference'])} {change(row, 'difference').detail}".strip())
