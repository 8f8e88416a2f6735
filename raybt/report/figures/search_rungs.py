"""The search's trade-off: every candidate of every rung, the winner, and its confirmation."""

from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import drawn_in, hollow_key, numbers, or_nan, point
from raybt.report.figures.panels import panels
from raybt.report.figures.style import BASELINE_LOOK, INK, MUTED, ONSET, Look
from raybt.report.results import Results, TableRow, is_collapsed, select
from raybt.report.searched import GOES_ON, Search, searches
from raybt.report.wording import MINUS, is_missing, plain, plural

COLUMNS = [
    "stage", "phase", "rung", "condition", "subset", "scale", "n_sites", "problems", "pairs", "pairs_lost",
    "onset_rate_baseline", "onset_rate", "onset_difference", "onset_difference_low", "onset_difference_high",
    "accuracy_baseline", "accuracy", "accuracy_difference", "accuracy_difference_low", "accuracy_difference_high",
    "reduction", "collapsed", "within", "on_front", "verdict",
]  # fmt: skip
X, Y = "onset_difference", "accuracy_difference"
LEFT, WENT_ON, WINNER = Look("#5f9fc8", "o", 5), Look(ONSET.color, "o", 6), Look("#b03a00", "*", 11)
GOAL = "#e6f0e0"
MOST_NUMBERED, WITH_INTERVALS = 12, 16

CAPTION = (
    "Successive halving: every candidate (a subset at a scale) is tried on few problems, the better part goes on to "
    "more. A panel is a rung; across, the change of the onset rate against the baseline on the same problems and "
    "samples, up, the change of accuracy, both in percentage points with 95% intervals, clustered by problem. The "
    "diamond is the baseline. The tinted field is the goal: at least as large a cut as was asked for, at no more than "
    "the margin of accuracy. Dark points went on, pale ones were left behind, hollow ones had collapsed and stand at "
    "the edge where they lie beyond it; the line is the front of the rung. The star is the winner. What wins among "
    "many wins partly by luck, so the last panel counts alone: the winner once more, on problems that no rung had seen."
)


def draw(results: Results) -> list[Drawing]:
    return [_drawing(results, search) for search in searches(results) if search.rungs]


def _drawing(results: Results, search: Search) -> Drawing:
    winner = f"The winner is {search.confirmation['condition']}. " if search.confirmation else ""
    return Drawing(
        name=f"search_{search.stage}",
        title=f"The search's trade-off, stage {plain(search.stage)}",
        caption=CAPTION,
        alt=plain(
            f"Change of accuracy against change of onset rate of {len(search.rungs[0])} candidates in "
            f"{plural(len(search.rungs), 'rung')}. {winner}Every value is in the search table."
        ),
        figure=_figure(search),
        data=select(results.study["search"], "stage", search.stage).loc[:, COLUMNS],
    )


def _figure(search: Search) -> Figure:
    shown = [*search.rungs, *([[search.confirmation]] if search.confirmation else [])]
    figure, grid = panels(len(shown) + 1, 2 if len(shown) in (1, 3) else 3, 2.6, 1.0)
    named = _numbers(search)
    for place, (rows, axes) in enumerate(zip(shown, grid, strict=False)):
        _goal(axes, search, rows)
        _panel(axes, rows, search, named)
        title = f"Rung {place + 1} of {search.planned or len(search.rungs)}"
        axes.set_title((title if place < len(search.rungs) else "Confirmation") + "\n")
        axes.text(0, 1.03, _counts(rows), transform=axes.transAxes, fontsize=7.5, color=MUTED)
        axes.xaxis.set_major_formatter(_points)
        axes.yaxis.set_major_formatter(_points)
    _key(grid[-1], named)
    figure.supxlabel("Change of the onset rate, percentage points", fontsize=9)
    figure.supylabel("Change of accuracy, percentage points", fontsize=9)
    figure.legend(handles=_legend(search), loc="outside upper center", ncols=4)
    return figure


def _numbers(search: Search) -> dict[str, int]:
    """The candidates that came furthest have a number each."""
    rungs = [sorted(rung, key=lambda row: row["verdict"] != GOES_ON) for rung in reversed(search.rungs)]
    best = [row["condition"] for rung in rungs for row in rung]
    return {name: place for place, name in enumerate(list(dict.fromkeys(best))[:MOST_NUMBERED], 1)}


def _goal(axes: Axes, search: Search, rows: list[TableRow]) -> None:
    base = next((row["onset_rate_baseline"] for row in rows if not is_missing(row["onset_rate_baseline"])), None)
    if search.reduce is None or search.margin is None or base is None:
        return
    axes.fill_between([-1.05, -search.reduce * base], -search.margin, 1.05, color=GOAL, lw=0, zorder=0)
    axes.plot([-1.05, -search.reduce * base], [-search.margin] * 2, color=MUTED, lw=0.8, ls=":", zorder=1)
    axes.plot([-search.reduce * base] * 2, [-search.margin, 1.05], color=MUTED, lw=0.8, ls=":", zorder=1)


def _panel(axes: Axes, rows: list[TableRow], search: Search, named: dict[str, int]) -> None:
    axes.axhline(0, color=MUTED, lw=0.6, zorder=1)
    axes.axvline(0, color=MUTED, lw=0.6, zorder=1)
    for row in sorted(rows, key=lambda row: row["verdict"] == GOES_ON):  # on top of those left behind
        _candidate(axes, row, _inside(row, search), _look(row, rows, search), len(rows) <= WITH_INTERVALS)
    drawn = [row for row in rows if row["condition"] in named and not is_missing(row[X]) and not is_missing(row[Y])]
    numbers(axes, [(named[row["condition"]], *_inside(row, search)) for row in drawn])
    front = sorted((row for row in rows if row["on_front"] is True), key=lambda row: (row[X], row[Y]))
    axes.step([row[X] for row in front], [row[Y] for row in front], where="post", color=INK, lw=1, zorder=2.5)
    point(axes, 0, 0, BASELINE_LOOK, zorder=3.5)
    axes.set_xlim(*_reach(search, X))
    axes.set_ylim(*_reach(search, Y))


def _look(row: TableRow, rows: list[TableRow], search: Search) -> Look:
    winner = search.confirmation
    last = row is winner or rows is search.rungs[-1]
    if winner is not None and last and row["condition"] == winner["condition"]:
        return WINNER
    return WENT_ON if row["verdict"] == GOES_ON else LEFT


def _reach(search: Search, stem: str) -> tuple[float, float]:
    """One scale for all panels, with all points that have not collapsed, and the interval of what was confirmed."""
    every = [row for rung in search.rungs for row in rung if not is_collapsed(row)]
    values = [row[stem] for row in every if not is_missing(row[stem])] + [0.0]
    if search.confirmation:
        values += [or_nan(search.confirmation[f"{stem}{end}"]) for end in ("_low", "_high")]
    values = [value for value in values if value == value]
    room = 0.12 * (max(values) - min(values)) or 0.05
    return min(values) - room, max(values) + room


def _inside(row: TableRow, search: Search) -> tuple[float, float]:
    return drawn_in(or_nan(row[X]), _reach(search, X)), drawn_in(or_nan(row[Y]), _reach(search, Y))


def _candidate(axes: Axes, row: TableRow, place: tuple[float, float], look: Look, with_interval: bool) -> None:
    x, y = place
    if with_interval:
        thin = {"color": look.color, "lw": 0.8, "alpha": 0.6, "zorder": 2}
        axes.plot([or_nan(row[f"{X}_low"]), or_nan(row[f"{X}_high"])], [y, y], **thin)
        axes.plot([x, x], [or_nan(row[f"{Y}_low"]), or_nan(row[f"{Y}_high"])], **thin)
    point(axes, x, y, look, is_collapsed(row), mew=1.0, clip_on=not is_collapsed(row))


def _counts(rows: list[TableRow]) -> str:
    problems = max((row["problems"] for row in rows if not is_missing(row["problems"])), default=0)
    return f"{plural(len(rows), 'candidate')}, {plural(int(problems), 'problem')}"


def _points(share: float, _: object) -> str:
    return "0" if abs(share) < 1e-9 else f"{100 * share:+.3g}".replace("-", MINUS)


def _key(axes: Axes, named: dict[str, int]) -> None:
    axes.set_axis_off()
    lines = [f"{place}  {shorten(str(name), 30, placeholder='…')}" for name, place in named.items()]
    axes.text(0, 1, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=7.5, linespacing=1.5)


def _legend(search: Search) -> list[Line2D | Patch]:
    def mark(look: Look, label: str) -> Line2D:
        return Line2D([], [], color=look.color, marker=look.marker, ms=look.size, ls="none", label=label)

    goal = [Patch(facecolor=GOAL, edgecolor=MUTED, ls=":", label="the goal")] * (search.margin is not None)
    marks = [mark(LEFT, "left behind"), mark(WENT_ON, "went on"), mark(WINNER, "winner")]
    line = Line2D([], [], color=INK, lw=1, label="front")
    return [*marks, mark(BASELINE_LOOK, "baseline"), line, hollow_key(), *goal]
