"""Onset rate and accuracy of every condition of a stage, against the baseline and the random controls."""

from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from raybt.report.figures.control_marks import by_target, keys, lanes
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import reference
from raybt.report.figures.style import (
    ACCURACY,
    BAND,
    BASELINE_FILL,
    HOLLOW_HATCH,
    INK,
    MUTED,
    ONSET,
    PAPER,
    WIDTH,
    Measure,
    percent_axis,
)
from raybt.report.results import Results, TableRow, baseline_of, groups, is_baseline, is_collapsed, is_control, select
from raybt.report.shown import furthest, left_out
from raybt.report.wording import count, is_missing, percent, plain

MEASURES = (ONSET, ACCURACY)
COLUMNS = [
    "stage", "condition", "variant", "role", "control_of", "subset", "scale", "planned", "done", "problems",
    "collapsed", *[f"{m.stem}{part}" for m in MEASURES for part in ("", "_low", "_high")],
]  # fmt: skip
BAR_INCHES, LANED_INCHES, PANEL_INCHES, MARGIN_INCHES = 0.25, 0.4, 0.45, 1.0
TALLEST = 16.5  # inches; what is taller than a page can't be compared at a glance

CAPTION = (
    "Each bar is one condition: on the left the share of completions in which the model backtracks (onset rate), on "
    "the right the share with the correct answer. The thin line through a bar's end is its 95% interval, clustered "
    "by problem. The dashed line and the grey band are the baseline and its interval, where nothing was intervened "
    "on. A bar to the left of the band on the left panel, with its partner on the right panel still inside the "
    "band, is what a site that matters for backtracking and for little else would look like. Hollow, hatched bars "
    "are collapsed conditions: the model is broken there, and their onset rate says nothing about backtracking. The "
    "numbers at the right edge are completions done / planned. Intervals of two bars may overlap although their "
    "paired difference is clear; the contrasts table holds the test."
)
CONTROLS_CAPTION = (
    " Below a bar stand the random controls of that condition, one mark each: circles are random subsets with as many "
    "sites of the same kind and depth, triangles random directions of the same size; the tinted strip spans their "
    "range, and hollow marks are controls that collapsed. Only a bar that ends outside its strip does something that "
    "random changes of the same size do not."
)


@dataclass(frozen=True)
class Panel:
    variant: str
    rows: list[TableRow]  # baseline and targets
    controls: dict[str, list[TableRow]]  # of each target
    hidden: int = 0

    @property
    def pitch(self) -> float:
        return LANED_INCHES if self.controls else BAR_INCHES

    @property
    def inches(self) -> float:
        return self.pitch * len(self.rows) + PANEL_INCHES


def draw(results: Results) -> list[Drawing]:
    """A stage that has the baseline alone is drawn only where there is no other."""
    stages = {stage: rows for (stage,), rows in groups(results.conditions, "stage")}
    treated = [stage for stage, rows in stages.items() if not all(map(is_baseline, rows))]
    return [drawing for stage in treated or list(stages) for drawing in _drawings(results, stage)]


def _drawings(results: Results, stage: str) -> list[Drawing]:
    """One drawing a stage, or one a variant where together they would be too tall."""
    panels = [_panel_of(v, rows) for (v,), rows in groups(select(results.conditions, "stage", stage), "variant")]
    if sum(panel.inches for panel in panels) <= TALLEST or len(panels) == 1:
        return [_drawing(results, stage, f"bars_{stage}", "", panels)]
    return [
        _drawing(results, stage, f"bars_{stage}_{panel.variant}", f", variant {panel.variant}", [panel])
        for panel in panels
    ]


def _panel_of(variant: str, rows: list[TableRow]) -> Panel:
    panel = Panel(variant, [row for row in rows if not is_control(row)], by_target([r for r in rows if is_control(r)]))
    kept, hidden = furthest(panel.rows, int((TALLEST - PANEL_INCHES) / panel.pitch) - 1)
    return replace(panel, rows=kept, hidden=hidden)


def _drawing(results: Results, stage: str, name: str, where: str, panels: list[Panel]) -> Drawing:
    table = select(results.conditions, "stage", stage)
    drawn = table["variant"].isin([panel.variant for panel in panels])
    caption = CAPTION + CONTROLS_CAPTION * any(panel.controls for panel in panels)
    return Drawing(
        name=name,
        title=f"Onset rate and accuracy by condition, stage {plain(stage)}{plain(where)}",
        caption=caption,
        alt=_alt(stage, panels),
        figure=_figure(panels),
        data=table.loc[drawn, COLUMNS],
        note=left_out(sum(panel.hidden for panel in panels)),
    )


def _alt(stage: str, panels: list[Panel]) -> str:
    rates = [(panel.variant, row) for panel in panels if (row := baseline_of(panel.rows))]
    baselines = [f"{variant} {percent(row[ONSET.stem])}" for variant, row in rates]
    n_bars = max(len(panel.rows) for panel in panels)
    reference = f" Baseline onset rate by variant: {', '.join(baselines)}." if baselines else ""
    return plain(
        f"Horizontal bars of onset rate and accuracy for {n_bars} conditions of stage {stage}.{reference} "
        "Every value is in the conditions table."
    )


def _figure(panels: list[Panel]) -> Figure:
    sizes = [panel.inches for panel in panels]
    figure = Figure(figsize=(WIDTH, sum(sizes) + MARGIN_INCHES), layout=ConstrainedLayoutEngine(w_pad=0.1))
    grid = figure.subplots(len(panels), len(MEASURES), sharey="row", squeeze=False, height_ratios=sizes)
    for panel, pair in zip(panels, grid, strict=True):
        for measure, axes in zip(MEASURES, pair, strict=True):
            _draw_panel(axes, panel, measure)
            axes.set_title(measure.label if len(panels) == 1 else f"{measure.label} · {panel.variant}")
        _name_rows(pair[0], panel.rows)
        _print_counts(pair[-1], panel.rows)
    controls = [row for panel in panels for rows in panel.controls.values() for row in rows]
    figure.legend(handles=_legend(controls), loc="outside lower center", ncols=4 if not controls else 3)
    return figure


def _draw_panel(axes: Axes, panel: Panel, measure: Measure) -> None:
    percent_axis(axes, "x")
    axes.tick_params(axis="y", length=0)
    reference(axes, baseline_of(panel.rows), measure.stem)
    for y, row in enumerate(panel.rows):
        controls = panel.controls.get(row["condition"], [])
        middle, height = (y - 0.14, 0.46) if panel.controls else (y, 0.66)
        _bar(axes, middle, height, row, measure)
        lanes(axes, y + 0.2, controls, measure.stem)
    axes.set_ylim(len(panel.rows) - 0.4, -0.6)  # the table's order, from the top


def _bar(axes: Axes, y: float, height: float, row: TableRow, measure: Measure) -> None:
    if is_missing(row[measure.stem]):
        axes.text(0.01, y, "no completed rows", va="center", style="italic", color=MUTED, fontsize=8)
        return
    axes.barh(y, row[measure.stem], height=height, lw=1, zorder=2, **_fill(row, measure.color))
    low, high = row[f"{measure.stem}_low"], row[f"{measure.stem}_high"]
    if not is_missing(low):
        axes.plot([low, high], [y, y], color=PAPER, lw=3, solid_capstyle="butt", zorder=3)  # legible over hatches too
        axes.plot([low, high], [y, y], color=INK, lw=1.1, marker="|", ms=5, zorder=4)


def _fill(row: TableRow, color: str) -> dict[str, Any]:
    if is_collapsed(row):
        return {"facecolor": PAPER, "edgecolor": color, "hatch": HOLLOW_HATCH}
    shade = BASELINE_FILL if is_baseline(row) else color
    return {"facecolor": shade, "edgecolor": shade}


def _name_rows(axes: Axes, rows: list[TableRow]) -> None:
    names = ["\n".join(wrap(str(row["condition"]), 34)) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8.5 if max(map(len, names), default=0) <= 34 else 7)


def _print_counts(axes: Axes, rows: list[TableRow]) -> None:
    for y, row in enumerate(rows):
        counts = f"{count(row['done'])}/{count(row['planned'])}"
        axes.text(1.02, y, counts, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED)


def _legend(controls: list[TableRow]) -> list[Patch | Line2D]:
    return [
        Line2D([], [], color=INK, lw=1, ls=(0, (4, 3)), label="baseline"),
        Patch(color=BAND, label="its 95% interval"),
        Line2D([], [], color=INK, lw=1.1, marker="|", ms=5, label="95% interval"),
        Patch(facecolor=PAPER, edgecolor=INK, hatch=HOLLOW_HATCH, label="collapsed: no claim"),
        *keys(controls),
    ]
