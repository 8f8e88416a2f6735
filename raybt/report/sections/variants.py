"""Prompt variants: does the wording of the prompt change how often the untouched model backtracks?"""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, counts, share, tests
from raybt.report.results import Results, TableRow, study_rows
from raybt.report.wording import (
    bounds,
    code,
    is_missing,
    listed,
    percent,
    plural,
    points_in_words,
    probability_in_words,
)

ALPHA = 0.05  # of the Holm-corrected p
COUNTS = ("planned", "done", "failed", "problems")


def blocks(results: Results) -> list[Block]:
    rows = study_rows(results, "variants")
    return [Paragraph(_lead(rows)), _table(rows)] if len(rows) > 1 else []


def _lead(rows: list[TableRow]) -> str:
    outside = [row for row in rows if _is_outside(row)]
    told = [row for row in rows if not is_missing(row["p_holm"]) and row["p_holm"] < ALPHA]
    what = f"The untouched model was run under {plural(len(rows), 'prompt variant')}."
    return " ".join([what, _bands(rows, outside), *map(_difference, told), *([] if told else [_none(rows)])])


def _is_outside(row: TableRow) -> bool:
    if is_missing(row["band_low"]) or is_missing(row["onset_rate"]):
        return False
    return not row["band_low"] <= row["onset_rate"] <= row["band_high"]


def _bands(rows: list[TableRow], outside: list[TableRow]) -> str:
    if all(is_missing(row["band_low"]) for row in rows):
        return "With one sample of each problem the noise of sampling can't be told from the wording."
    if not outside:
        return "Every onset rate lies in the band that the noise of sampling alone would fill."
    names = listed(code(row["variant"]) for row in outside)
    which = f"rate under {names} lies" if len(outside) == 1 else f"rates under {names} lie"
    return f"The onset {which} outside the band that the noise of sampling alone would fill."


def _difference(row: TableRow) -> str:
    return (
        f"Under {code(row['variant'])} the model backtracks in {percent(row['onset_rate'])} of its completions, "
        f"{points_in_words(row, 'difference', probability_in_words('Holm p', row['p_holm']))} from "
        f"{code(row['reference'])}."
    )


def _none(rows: list[TableRow]) -> str:
    return f"No variant's onset rate differs from that of {code(rows[0]['reference'])} beyond what chance allows."


def _table(rows: list[TableRow]) -> Table:
    titles = ("Planned", "Done", "Failed", "Problems", "Onset rate", "Noise alone", "Accuracy, all")
    heads = columns("Variant", numbers=(*titles, "Difference, points", "p", "Holm p"))
    return Table("The baseline by prompt variant", heads, tuple(map(_row, rows)))


def _row(row: TableRow) -> Row:
    band = Cell(bounds(row["band_low"], row["band_high"]))
    cells = (*counts(row, *COUNTS), share(row, "onset_rate"), band, share(row, "accuracy_all"))
    return Row((Cell(code(row["variant"])), *cells, change(row, "difference"), *tests(row)))
