"""Cells of the study's tables: an estimate with its interval below, and the counts that every table has."""

from collections.abc import Iterable

from raybt.report.blocks import Cell, Column
from raybt.report.results import TableRow
from raybt.report.wording import NOTHING, bounds, count, is_missing, percent, point_bounds, points, probability, signed


def columns(*first: str, numbers: Iterable[str] = (), last: Iterable[str] = ()) -> tuple[Column, ...]:
    """Text columns, then numeric ones, then text again."""
    return (
        *(Column(title, False) for title in first),
        *(Column(title) for title in numbers),
        *(Column(title, False) for title in last),
    )


def counts(row: TableRow, *names: str) -> tuple[Cell, ...]:
    return tuple(Cell(count(row[name])) for name in names)


def share(row: TableRow, stem: str) -> Cell:
    """A rate in percent."""
    return Cell(percent(row[stem]), _known(bounds(row[f"{stem}_low"], row[f"{stem}_high"])))


def change(row: TableRow, stem: str) -> Cell:
    """A difference of rates in percentage points."""
    return Cell(points(row[stem]), _known(point_bounds(row[f"{stem}_low"], row[f"{stem}_high"])))


def _known(interval: str) -> str:
    """An interval that can't be estimated takes no line of its own."""
    return "" if interval == NOTHING else interval


def nats(row: TableRow, stem: str) -> Cell:
    """A signed quantity in nats or logits."""
    said, low, high = signed(row, stem)
    return Cell(said, "" if NOTHING in (low, high) else f"[{low}, {high}]")


def small(value: float | None) -> Cell:
    """A floor or a divergence, which may be tiny: three significant digits."""
    return Cell(NOTHING if is_missing(value) else f"{value:.3g}".replace("e-0", "e-").replace("-", "−"))


def tests(row: TableRow) -> tuple[Cell, Cell]:
    return Cell(probability(row["p"])), Cell(probability(row["p_holm"]))
