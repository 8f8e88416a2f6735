"""What an intervention costs: accuracy against onset rate, with the front of what is not beaten in both."""

from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raybt.report.figures.control_marks import faint, keys
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import drawn_in, hollow_key, numbers, or_nan, point
from raybt.report.figures.style import ACCURACY, BASELINE_LOOK, INK, MUTED, ONSET, WIDTH, Look, as_share
from raybt.report.figures.subset_bars import COLUMNS
from raybt.report.results import Results, TableRow, groups, is_baseline, is_collapsed, is_control, select
from raybt.report.wording import is_missing, plain

X, Y = ONSET.stem, ACCURACY.stem
TARGET = Look(ONSET.color, "o", 6, "-")
ALL_NUMBERED, MOST_NUMBERED = 14, 14  # as many conditions have a number each; beyond that only those on the front
PANEL_INCHES, MARGIN_INCHES = 3.5, 0.75
ROOM, LEAST_ROOM = 0.2, 0.04  # around the points, of their reach and in shares

CAPTION = (
    "Every condition by its onset rate (across) and its accuracy over all completions (up); thin bars are 95% "
    "intervals, clustered by problem. An intervention meant to cut backtracking is the better the further left and up "
    "it stands. The diamond is the baseline, the grey cross through it marks what it does. The stepped line is the "
    "front: for each condition on it no other has both fewer onsets and higher accuracy. Hollow points are collapsed "
    "conditions: they can't be on the front and allow no claim, and where they lie beyond the panel they stand at its "
    "edge. Numbers are named at the right. Points close together "
    "are not told apart by this figure; the contrasts table holds the tests."
)
CONTROLS_CAPTION = (
    " The small faint marks are random controls: circles matched subsets, triangles random directions. A target inside "
    "their cloud does what random changes do."
)


def draw(results: Results) -> list[Drawing]:
    stages = ((stage, _panels(rows)) for (stage,), rows in groups(results.conditions, "stage"))
    return [_drawing(results, stage, panels) for stage, panels in stages if panels]


def _panels(rows: list[TableRow]) -> dict[str, list[TableRow]]:
    """Rows with both rates by variant, where there is more than the baseline."""
    found: dict[str, list[TableRow]] = {}
    for row in rows:
        if not is_missing(row[X]) and not is_missing(row[Y]):
            found.setdefault(row["variant"], []).append(row)
    return {variant: part for variant, part in found.items() if any(map(_is_target, part))}


def _is_target(row: TableRow) -> bool:
    return not is_baseline(row) and not is_control(row)


def _drawing(results: Results, stage: str, panels: dict[str, list[TableRow]]) -> Drawing:
    controls = [row for rows in panels.values() for row in rows if is_control(row)]
    fronts = [row["condition"] for rows in panels.values() for row in front(rows)]
    return Drawing(
        name=f"tradeoff_{stage}",
        title=f"Accuracy against onset rate, stage {plain(stage)}",
        caption=CAPTION + CONTROLS_CAPTION * bool(controls),
        alt=plain(
            f"Accuracy against onset rate of each condition of stage {stage}. On the front: "
            f"{', '.join(fronts[:8])}. Every value is in the conditions table."
        ),
        figure=_figure(panels, controls),
        data=select(results.conditions, "stage", stage).loc[:, COLUMNS],
    )


def front(rows: list[TableRow]) -> list[TableRow]:
    """Baseline and targets, the collapsed aside, that no other beats in both measures; from the fewest onsets up."""
    sound = [row for row in rows if not is_control(row) and not is_collapsed(row)]
    return sorted(
        (row for row in sound if not any(_beats(other, row) for other in sound)), key=lambda row: (row[X], row[Y])
    )


def _beats(one: TableRow, other: TableRow) -> bool:
    at_least = one[X] <= other[X] and one[Y] >= other[Y]
    return at_least and (one[X] < other[X] or one[Y] > other[Y])


def _figure(panels: dict[str, list[TableRow]], controls: list[TableRow]) -> Figure:
    figure = Figure(figsize=(WIDTH, PANEL_INCHES * len(panels) + MARGIN_INCHES), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, width_ratios=[2, 1])
    for (variant, rows), (axes, side) in zip(panels.items(), grid, strict=True):
        numbered = _numbered(rows)
        _panel(axes, rows, numbered)
        _names(side, numbered, sum(map(_is_target, rows)) - len(numbered))
        axes.set_title(f"Variant {variant}" if len(panels) > 1 else "")
    grid[-1][0].set_xlabel(ONSET.label)
    figure.legend(handles=_legend(controls), loc="outside upper center", ncols=3)
    return figure


def _numbered(rows: list[TableRow]) -> list[TableRow]:
    targets = [row for row in rows if _is_target(row)]
    if len(targets) <= ALL_NUMBERED:
        return targets
    return [row for row in front(rows) if _is_target(row)][:MOST_NUMBERED]


def _panel(axes: Axes, rows: list[TableRow], numbered: list[TableRow]) -> None:
    frame = _frame(rows)
    for row in rows:
        faint(axes, row, X, Y) if is_control(row) else _condition(axes, row, *_inside(row, frame))
    _front_line(axes, front(rows))
    numbers(axes, [(place, *_inside(row, frame)) for place, row in enumerate(numbered, 1)])
    axes.set_xlim(*frame[X])
    axes.set_ylim(*frame[Y])
    axes.set_ylabel(ACCURACY.label)
    axes.xaxis.set_major_formatter(as_share)
    axes.yaxis.set_major_formatter(as_share)
    axes.grid()


def _frame(rows: list[TableRow]) -> dict[str, tuple[float, float]]:
    """Limits with room around everything that has not collapsed: what is broken must not press the rest together."""
    sound = [row for row in rows if not is_collapsed(row)] or rows
    limits = {}
    for stem in (X, Y):
        low, high = min(row[stem] for row in sound), max(row[stem] for row in sound)
        room = max(ROOM * (high - low), LEAST_ROOM)
        limits[stem] = (max(low - room, -0.03), min(high + room, 1.03))
    return limits


def _inside(row: TableRow, frame: dict[str, tuple[float, float]]) -> tuple[float, float]:
    return drawn_in(row[X], frame[X]), drawn_in(row[Y], frame[Y])


def _condition(axes: Axes, row: TableRow, x: float, y: float) -> None:
    low, high = (or_nan(row[f"{Y}{end}"]) for end in ("_low", "_high"))
    axes.plot([x, x], [low, high], color=MUTED, lw=0.7, alpha=0.6, zorder=1.8)
    axes.plot([or_nan(row[f"{X}_low"]), or_nan(row[f"{X}_high"])], [y, y], color=MUTED, lw=0.7, alpha=0.6, zorder=1.8)
    if is_baseline(row):
        axes.axvline(x, color=MUTED, lw=0.7, ls=":", zorder=1)
        axes.axhline(y, color=MUTED, lw=0.7, ls=":", zorder=1)
        point(axes, x, y, BASELINE_LOOK, zorder=5)
    else:
        point(axes, x, y, TARGET, is_collapsed(row), clip_on=False)


def _front_line(axes: Axes, rows: list[TableRow]) -> None:
    axes.step([row[X] for row in rows], [row[Y] for row in rows], where="post", color=INK, lw=1.1, zorder=3)


def _names(axes: Axes, rows: list[TableRow], others: int) -> None:
    """The conditions that the numbers stand for, beside the panel."""
    axes.set_axis_off()
    lines = [f"{place}  {_named(row)}" for place, row in enumerate(rows, 1)]
    lines += [f"and {others} without a number,\nin the CSV beside the figure"] * bool(others)
    axes.text(0, 1, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=7.5, linespacing=1.5)


def _named(row: TableRow) -> str:
    return shorten(str(row["condition"]), 30, placeholder="…") + ("  (collapsed)" if is_collapsed(row) else "")


def _legend(controls: list[TableRow]) -> list[Line2D]:
    def mark(look: Look, label: str) -> Line2D:
        return Line2D([], [], color=look.color, marker=look.marker, ms=look.size, ls="none", label=label)

    line = Line2D([], [], color=INK, lw=1.1, label="front")
    marks = [mark(TARGET, "condition"), mark(BASELINE_LOOK, "baseline"), line, hollow_key()]
    return [*marks, *keys(controls)]
