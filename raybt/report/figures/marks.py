"""Marks that figures share: points that are hollow where the model collapsed, intervals, lines with bands."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from raybt.report.figures.style import BAND, INK, MUTED, PAPER, Look
from raybt.report.results import TableRow
from raybt.report.wording import is_missing

MOST_TOGETHER = 3  # numbers in one label
EDGE = 1.4  # width of a marker's outline, so that a hollow one is seen


def or_nan(value: Any) -> float:
    return float("nan") if is_missing(value) else float(value)


def estimates(rows: Sequence[TableRow], stem: str) -> tuple[list[float], list[float], list[float]]:
    """Low end, estimate and high end of each row; nan where there is none, which draws nothing."""
    low, middle, high = ([or_nan(row[stem + part]) for row in rows] for part in ("_low", "", "_high"))
    return low, middle, high


def point(axes: Axes, x: float, y: float, look: Look, hollow: bool = False, **more: Any) -> None:
    face = PAPER if hollow else look.color
    style: dict[str, Any] = {"marker": look.marker, "ms": look.size, "mfc": face, "mec": look.color, "mew": EDGE}
    axes.plot([x], [y], ls="none", **{"zorder": 4, **style, **more})


def drawn_in(value: float, limits: tuple[float, float]) -> float:
    """A place at the panel's edge for what lies beyond it; nan stays nan."""
    low, high = limits
    return min(max(value, low), high)


def line_with_band(axes: Axes, xs: Sequence[float], rows: Sequence[TableRow], stem: str, look: Look) -> None:
    """A line through the estimates with their intervals as bars inside a band."""
    low, middle, high = estimates(rows, stem)
    axes.fill_between(xs, low, high, color=look.color, alpha=0.13, lw=0)
    axes.vlines(xs, low, high, color=look.color, lw=1)
    axes.plot(xs, middle, color=look.color, ls=look.line, zorder=3)


def lane(axes: Axes, y: float, row: TableRow, stem: str, look: Look, hollow: bool = False) -> None:
    """An estimate on a horizontal scale with its interval."""
    (low,), (middle,), (high,) = estimates([row], stem)
    axes.plot([low, high], [y, y], color=look.color, lw=1.2, zorder=3)
    point(axes, middle, y, look, hollow)


def numbers(axes: Axes, places: Sequence[tuple[int, float, float]]) -> None:
    """(number, x, y): each number beside its point; points that coincide share one label."""
    found: dict[tuple[float, float], list[str]] = {}
    for number, x, y in places:
        found.setdefault((round(x, 6), round(y, 6)), []).append(str(number))
    box = {"boxstyle": "square,pad=0.05", "fc": PAPER, "ec": "none", "alpha": 0.75}
    for place, names in found.items():
        label = ", ".join(names if len(names) <= MOST_TOGETHER else [*names[: MOST_TOGETHER - 1], "…"])
        axes.annotate(label, place, (4, 4), textcoords="offset points", fontsize=7.5, zorder=6, bbox=box)


def reference(axes: Axes, row: TableRow | None, stem: str, which: str = "x") -> None:
    """The baseline's rate as a dashed line in its interval, across the whole panel."""
    if row is None or is_missing(row[stem]):
        return
    span, line = (axes.axvspan, axes.axvline) if which == "x" else (axes.axhspan, axes.axhline)
    if not is_missing(row[f"{stem}_low"]):
        span(row[f"{stem}_low"], row[f"{stem}_high"], color=BAND, lw=0, zorder=0)
    line(row[stem], color=INK, lw=1, ls=(0, (4, 3)), zorder=2.5)


def key(look: Look, label: str) -> Line2D:
    return Line2D(
        [], [], color=look.color, marker=look.marker, ms=look.size, ls=look.line, mfc=look.color, mew=EDGE, label=label
    )


def hollow_key(marker: str = "o") -> Line2D:
    return Line2D([], [], color=INK, marker=marker, mfc=PAPER, mew=EDGE, ls="none", label="collapsed: no claim")


def band_key(label: str = "95% interval") -> Patch:
    return Patch(color=MUTED, alpha=0.25, label=label)
