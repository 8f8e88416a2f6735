"""Decisions: what was decided between waves, from what, and why."""

from textwrap import shorten

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import columns
from raybt.report.results import Results, TableRow, rows_of
from raybt.report.wording import code, plain, plural, text

LONGEST = 160  # characters of a value


def blocks(results: Results) -> list[Block]:
    rows = [] if results.decisions is None else rows_of(results.decisions)
    if not rows:
        return []
    lead = (
        f"{plural(len(rows), 'decision')} {'was' if len(rows) == 1 else 'were'} made while the study ran, each from "
        "finished tables only. They are kept with the run and read again when it is resumed, never made a second time; "
        "the hash names what each was made from. Long values are cut here and whole in decisions.parquet."
    )
    heads = columns("Decision", "What was decided", "Reason", "Made from")
    return [Paragraph(lead), Table("Decisions, in the order in which they were made", heads, tuple(map(_row, rows)))]


def _row(row: TableRow) -> Row:
    value = shorten(text(row["value"]).replace(",", ", "), LONGEST, placeholder=" …")
    return Row(
        (Cell(code(row["name"])), Cell(code(value)), Cell(plain(text(row["reason"]))), Cell(code(row["made_from"])))
    )
