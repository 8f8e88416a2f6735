"""Onset rate and accuracy together against something that is varied: scale, layer or number of sites."""

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from raybt.report.figures.marks import band_key, estimates, hollow_key, key, line_with_band, point
from raybt.report.figures.style import ACCURACY, ONSET
from raybt.report.results import TableRow, is_collapsed
from raybt.report.wording import count

MEASURES = (ONSET, ACCURACY)


def response(axes: Axes, xs: Sequence[float], rows: Sequence[TableRow]) -> None:
    """A line a measure; points of collapsed conditions are hollow."""
    for measure in reversed(MEASURES):  # the smaller circles on top, where points coincide
        line_with_band(axes, xs, rows, measure.stem, measure)
        _, middle, _ = estimates(rows, measure.stem)
        for row, x, y in zip(rows, xs, middle, strict=True):
            point(axes, x, y, measure, is_collapsed(row))


def response_keys() -> list[Artist]:
    return [*(key(measure, measure.label) for measure in MEASURES), band_key(), hollow_key()]


def counts(rows: Sequence[TableRow], each: str) -> str:
    """Completions done / planned of the points of a panel: '96/96 at each scale'."""
    by_done = sorted(rows, key=lambda row: row["done"])
    fewest, most = (f"{count(row['done'])}/{count(row['planned'])}" for row in (by_done[0], by_done[-1]))
    return f"{most} at each {each}" if fewest == most else f"{fewest} to {most} at each {each}"
