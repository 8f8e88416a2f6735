"""The conditions and contrasts tables. Column names and formats only; the numbers are the input's."""

from raybt.report.blocks import Block, Cell, Column, Paragraph, Row, Table, Warning
from raybt.report.findings import said
from raybt.report.results import Results, TableRow, groups, is_baseline, is_collapsed, is_mixed, rows_of, variants_of
from raybt.report.wording import (
    bounds,
    code,
    compact,
    count,
    is_missing,
    number,
    percent,
    plain,
    point_bounds,
    points,
    probability,
    text,
)  # fmt: skip

COUNTS = ("planned", "done", "failed", "missing", "truncated", "unparseable")
RATES = {"onset_rate": "Onset rate", "accuracy_all": "Accuracy, all", "accuracy_answered": "Accuracy, answered"}
MEASURES = {**RATES, "relaxed_rate": "Onset rate, relaxed triggers"}
LENGTHS = {"mean_tokens": "Mean tokens"}  # measures that are not shares

HEALTH = {
    "truncated_rate": "Truncated",
    "answerable_rate": "Answerable",
    "chance_accuracy": "Accuracy by chance",
    "repetitive_rate": "Repetitive",
    "repetition": "Repetition",
    "compression": "Compression",
    "mean_tokens": "Mean tokens",
}


def conditions(results: Results) -> list[Block]:
    lead = Paragraph(
        "One row a condition. Under each rate stands its 95% interval, clustered by problem. Accuracy over all "
        "counts truncated and unparseable completions as not correct; accuracy over answered leaves them out."
    )
    return [lead, *_per_variant(results, _condition_table)]


def details(results: Results) -> list[Block]:
    """What the conditions table has no room for: plain Wilson intervals, and the measures behind the collapsed flag."""
    lead = Paragraph(
        "Wilson intervals treat the samples of one problem as independent and are usually too narrow; they are here "
        "for comparison. The health measures are what the collapsed flag is decided from."
    )
    return [lead, *_per_variant(results, _wilson_table), *_per_variant(results, _health_table)]


def contrasts(results: Results) -> list[Block]:
    lead = Paragraph(
        "Each condition against the baseline on the same problems and samples, which share their random draws. "
        "Baseline and treated are means over the pairs done on both sides; differences are in percentage points (of "
        "tokens where so named) with 95% intervals; p is corrected by Holm's method within its family. A pair is "
        "lost where one of its two completions is not there."
    )
    if results.contrasts.empty:
        return [Paragraph("There is nothing to compare: the contrasts table is empty.")]
    collapsed = {_place(row) for row in rows_of(results.conditions) if is_collapsed(row)}
    several = len(variants_of(results.contrasts)) > 1
    tables = [
        _contrast_table(stage, measure, rows, collapsed, several)
        for (stage, measure), rows in groups(results.contrasts, "stage", "measure")
    ]
    return [lead, *_numerics_warning(rows_of(results.contrasts)), *tables]


def _per_variant(results: Results, table) -> list[Block]:
    several = len(variants_of(results.conditions)) > 1
    return [
        table(f"Stage {plain(stage)}" + (f", prompt variant {plain(variant)}" if several else ""), rows)
        for (stage, variant), rows in groups(results.conditions, "stage", "variant")
    ]


def _condition_table(place: str, rows: list[TableRow]) -> Table:
    titles = ("Sites", *[name.capitalize() for name in COUNTS], *RATES.values())
    columns = (Column("Condition", False), *map(Column, titles), Column("Finding", False))
    return Table(f"{place}: conditions", columns, tuple(map(_condition_row, rows)))


def _condition_row(row: TableRow) -> Row:
    reason = text(row["collapsed_because"], "") if is_collapsed(row) else ""
    cells = (
        Cell(code(row["condition"]), _setting(row)),
        Cell(count(row["n_sites"])),
        *[Cell(count(row[name])) for name in COUNTS],
        *[_rate(row, stem, "") for stem in RATES],
        Cell(said(row), plain(reason)),
    )
    return Row(cells, _tone(row))


def _setting(row: TableRow) -> str:
    if is_baseline(row):
        return "nothing changed"
    subset = plain(text(row["subset"]))
    named = [] if subset in row["condition"] else [subset]
    return ", ".join([*named, _dose(row), plain(text(row["positions"]).partition(":")[0])])


def _dose(row: TableRow) -> str:
    operation = text(row.get("operation"), "scale")
    return f"{plain(operation)} {compact(row['scale'])}"


def _rate(row: TableRow, stem: str, which: str) -> Cell:
    interval = bounds(row[f"{stem}{which}_low"], row[f"{stem}{which}_high"])
    return Cell(percent(row[stem]), "" if is_missing(row[stem]) else interval)


def _wilson_table(place: str, rows: list[TableRow]) -> Table:
    columns = (Column("Condition", False), Column("Done"), Column("Problems"), *map(Column, MEASURES.values()))
    return Table(f"{place}: Wilson intervals", columns, tuple(map(_wilson_row, rows)))


def _wilson_row(row: TableRow) -> Row:
    counts = (Cell(count(row["done"])), Cell(count(row["problems"])))
    return Row((Cell(code(row["condition"])), *counts, *[_rate(row, stem, "_wilson") for stem in MEASURES]), _tone(row))


def _health_table(place: str, rows: list[TableRow]) -> Table:
    titles = ("Done", "Onset rate, relaxed", *HEALTH.values())
    columns = (Column("Condition", False), *map(Column, titles))
    return Table(f"{place}: health of the model", columns, tuple(map(_health_row, rows)))


def _health_row(row: TableRow) -> Row:
    measures = [Cell(_health(name, row[name])) for name in HEALTH]
    return Row(
        (Cell(code(row["condition"])), Cell(count(row["done"])), _rate(row, "relaxed_rate", ""), *measures), _tone(row)
    )


def _health(name: str, value: float | None) -> str:
    if name in ("repetition", "compression"):
        return number(value, 3)
    return number(value) if name in LENGTHS else percent(value)


def _contrast_table(stage: str, measure: str, rows: list[TableRow], collapsed: set, several: bool) -> Table:
    titles = ("Baseline", "Treated", "Difference", "95% interval", "p", "Holm p", "Pairs", "Lost", "Problems")
    names = (Column("Condition", False), *([Column("Variant", False)] if several else []))
    columns = (*names, *map(Column, titles), Column("Note", False))
    label = (MEASURES | LENGTHS).get(measure, plain(measure))
    return Table(
        f"Stage {plain(stage)}: {label}", columns, tuple(_contrast_row(row, collapsed, several) for row in rows)
    )


def _contrast_row(row: TableRow, collapsed: set, several: bool) -> Row:
    broken = _place(row) in collapsed
    notes = ["collapsed: no claim"] * broken + ["mixed numerics"] * is_mixed(row)
    cells = (
        Cell(code(row["condition"])),
        *([Cell(code(row["variant"]))] if several else []),
        *_effect(row),
        *[Cell(probability(row[name])) for name in ("p", "p_holm")],
        *[Cell(count(row[name])) for name in ("pairs", "pairs_lost", "problems")],
        Cell("; ".join(notes)),
    )
    return Row(cells, "collapsed" if broken else "")


def _effect(row: TableRow) -> list[Cell]:
    """Baseline, treated, difference, interval: tokens for a length, percent and percentage points for a share."""
    if row["measure"] in LENGTHS:
        low, high = (number(row[end], sign="+") for end in ("low", "high"))
        return [
            Cell(number(row["baseline"])),
            Cell(number(row["treated"])),
            Cell(number(row["difference"], sign="+")),
            Cell(f"[{low}, {high}]"),
        ]
    sides = [Cell(percent(row[side])) for side in ("baseline", "treated")]
    return [*sides, Cell(points(row["difference"])), Cell(point_bounds(row["low"], row["high"]))]


def _numerics_warning(rows: list[TableRow]) -> list[Block]:
    if not any(map(is_mixed, rows)):
        return []
    return [Warning(
        "Contrasts marked `mixed numerics` compare rows that were made with different devices, data types, "
        "attention code or library versions. The same row can come out differently there, so part of the difference "
        "may be arithmetic."
    )]  # fmt: skip


def _place(row: TableRow) -> tuple:
    return row["stage"], row["condition"], row["variant"]


def _tone(row: TableRow):
    return "baseline" if is_baseline(row) else "collapsed" if is_collapsed(row) else ""
