"""Which words gain and lose: a panel a condition, a lane a phrase, its change from the baseline."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raybt.report.figures.marks import EDGE, lane
from raybt.report.figures.panels import panels, small_title
from raybt.report.figures.style import MUTED, ONSET, PAPER, Look
from raybt.report.results import TableRow
from raybt.report.wording import MINUS, is_missing, percent, plain

MOST, LANE_INCHES = 9, 0.22
TIERS = {
    "strict": ("strict trigger: counts as backtracking", Look(ONSET.color, "o", 4.6), False),
    "relaxed": ("relaxed trigger", Look(ONSET.color, "o", 4.6), True),
    "alternative": ("other word", Look("#D55E00", "s", 4.2), False),
}


def change_lanes(parts: dict[str, list[TableRow]], before: dict[str, float]) -> Figure:
    """A panel a condition, a lane a phrase."""
    every = [row for rows in parts.values() for row in rows]
    names = list(dict.fromkeys(row["phrase"] for row in every))
    figure, grid = panels(len(parts), 3, LANE_INCHES * len(names) + 0.6, 0.7, sharex=True, sharey=True)
    for (title, rows), axes in zip(parts.items(), grid, strict=True):
        small_title(axes, title)
        _panel(axes, rows, names)
    grid[0].set_yticks(range(len(names)), [_label(name, before.get(name)) for name in names], fontsize=8)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    grid[0].xaxis.set_major_formatter(_as_points)
    figure.supxlabel("Change from the baseline, percentage points", fontsize=9)
    figure.legend(handles=_legend({row["tier"] for row in every}), loc="outside upper center", ncols=3)
    return figure


def _as_points(share: float, _: object) -> str:
    return "0" if abs(share) < 1e-9 else f"{100 * share:+g}".replace("-", MINUS)


def _label(name: str, before: float | None) -> str:
    return plain(name) if is_missing(before) else f"{plain(name)}  {percent(before)}"


def _panel(axes: Axes, rows: list[TableRow], names: list[str]) -> None:
    axes.axvline(0, color=MUTED, lw=0.8, zorder=1)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    for row in rows:
        _, look, hollow = TIERS[row["tier"]]
        lane(axes, names.index(row["phrase"]), row, "difference", look, hollow)


def _legend(tiers: set[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=look.color, marker=look.marker, ms=look.size, ls="none", mew=EDGE,
               mfc=PAPER if hollow else look.color, label=label)
        for tier, (label, look, hollow) in TIERS.items()
        if tier in tiers
    ]  # fmt: skip
