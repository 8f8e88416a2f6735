"""Sweeps over sites: each layer's attention or MLP alone, and the best sites together, one more at a time."""

import re
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import reference
from raybt.report.figures.panels import panels, small_title
from raybt.report.figures.response import MEASURES, counts, response, response_keys
from raybt.report.figures.style import INK, MUTED, percent_axis
from raybt.report.results import Results, TableRow, baseline_of, groups, is_baseline, without_controls
from raybt.report.wording import compact, plain, text

LAYER = re.compile(r"(?P<name>.+)\.(?P<kind>attn|mlp|resid)\.(?P<at>\d+)")  # subsets `layers.attn.3`
TOP = re.compile(r"(?P<name>.+)\.top(?P<at>\d+)")  # subsets `best.top2`
KINDS = {"attn": "Attention", "mlp": "MLP", "resid": "Residual stream"}
FEWEST = 2  # points of a line
COLUMNS = [
    "stage", "subset", "variant", "operation", "scale", "condition", "n_sites", "planned", "done", "problems",
    "collapsed", *[f"{m.stem}{part}" for m in MEASURES for part in ("", "_low", "_high")],
]  # fmt: skip

LAYER_CAPTION = (
    "Each layer's attention or MLP changed alone, everything else left as it is. Circles and solid lines are the share "
    "of completions in which the model backtracks, squares and dashed lines the share with the correct answer; bars "
    "and bands are 95% intervals, clustered by problem. The dashed rule is the baseline's onset rate in its grey "
    "interval. A layer whose circle falls out of the grey while its square stays with the others matters for "
    "backtracking and for little else; where both fall the model needs the layer for everything. Hollow points are "
    "collapsed conditions and allow no claim. Completions done / planned stand under each panel's title."
)
TOP_CAPTION = (
    "The best sites changed together, from the first alone to all of them: from left to right one more is added, in "
    "the order of their ranking. Circles and solid lines are the share of completions in which the model backtracks, "
    "squares and dashed lines the share with the correct answer; bars and bands are 95% intervals, clustered by "
    "problem. The dashed rule is the baseline's onset rate in its grey interval. Where the solid line has come down "
    "and stays, further sites add nothing; where the dashed one turns down with it, they cost more than backtracking. "
    "Hollow points are collapsed conditions and allow no claim. Completions done / planned stand under each title."
)


@dataclass(frozen=True)
class Line:
    title: str
    variant: str
    rows: list[TableRow]  # by place
    places: list[int]
    baseline: TableRow | None


def draw(results: Results) -> list[Drawing]:
    tables = groups(without_controls(results).conditions, "stage")
    return [drawing for (stage,), rows in tables for drawing in (*_layers(stage, rows), *_tops(stage, rows))]


def _layers(stage: str, rows: list[TableRow]) -> list[Drawing]:
    lines = _lines(rows, LAYER)
    title = f"Each layer changed alone, stage {plain(stage)}"
    return [_drawing(f"layers_{stage}", title, LAYER_CAPTION, lines, "Layer", "layer")] if lines else []


def _tops(stage: str, rows: list[TableRow]) -> list[Drawing]:
    lines = _lines(rows, TOP)
    title = f"The best sites together, stage {plain(stage)}"
    return [_drawing(f"cumulative_{stage}", title, TOP_CAPTION, lines, "Number of sites", "point")] if lines else []


def _lines(rows: list[TableRow], pattern: re.Pattern[str]) -> list[Line]:
    """A line for each sweep, kind, strength and variant that has points enough."""
    found: dict[tuple[str, ...], list[tuple[int, TableRow]]] = {}
    for row in rows:
        match = None if is_baseline(row) else pattern.fullmatch(text(row["subset"], ""))
        if match:
            kind = match.groupdict().get("kind", "")
            place = (row["variant"], match["name"], _dose(row), kind)
            found.setdefault(place, []).append((int(match["at"]), row))
    several = {i: len({place[i] for place in found}) > 1 for i in range(3)}
    return [_line(place, points, several, rows) for place, points in found.items() if len(points) >= FEWEST]


def _dose(row: TableRow) -> str:
    return f"{text(row.get('operation'), 'scale')} {compact(row['scale'])}"


def _line(place: tuple[str, ...], points: list[tuple[int, TableRow]], several: dict, rows: list[TableRow]) -> Line:
    variant, name, dose, kind = place
    told = [part for i, part in ((1, name), (2, dose), (0, variant)) if several[i]]
    points = sorted(points, key=lambda point: point[0])
    return Line(
        title=" · ".join([KINDS.get(kind, kind or name), *[part for part in told if kind or part != name]]),
        variant=variant,
        rows=[row for _, row in points],
        places=[at for at, _ in points],
        baseline=baseline_of([row for row in rows if row["variant"] == variant]),
    )


def _drawing(name: str, title: str, caption: str, lines: list[Line], axis: str, each: str) -> Drawing:
    drawn = [row for line in lines for row in line.rows]
    titles = ", ".join(line.title for line in lines)
    return Drawing(
        name=name,
        title=title,
        caption=caption,
        alt=plain(
            f"Onset rate and accuracy against {axis.lower()}, panels {titles}. Every value is in the conditions table."
        ),
        figure=_figure(lines, axis, each),
        data=pd.DataFrame(drawn).loc[:, COLUMNS],
    )


def _figure(lines: list[Line], axis: str, each: str) -> Figure:
    long = max(len(line.places) for line in lines) > 14
    figure, grid = panels(len(lines), 1 if long or len(lines) == 1 else 2, 2.5, 0.95, sharey=True)
    for line, axes in zip(lines, grid, strict=True):
        _panel(axes, line, each)
    figure.supxlabel(axis, fontsize=9)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=3, handlelength=3)
    return figure


def _panel(axes: Axes, line: Line, each: str) -> None:
    percent_axis(axes, "y")
    reference(axes, line.baseline, MEASURES[0].stem, "y")
    response(axes, line.places, line.rows)
    small_title(axes, f"{line.title}\n")
    axes.text(0, 1.03, counts(line.rows, each), transform=axes.transAxes, fontsize=7.5, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.04)


def _legend() -> list[Artist]:
    return [*response_keys(), Line2D([], [], color=INK, lw=1, ls=(0, (4, 3)), label="baseline's onset rate")]
