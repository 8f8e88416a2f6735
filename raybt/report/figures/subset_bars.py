"""Onset rate and accuracy of every condition of a stage, against the baseline."""

from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from raybt.report.figures.drawing import Drawing
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
from raybt.report.results import Results, TableRow, baseline_of, groups, is_baseline, is_collapsed, select
from raybt.report.wording import count, is_missing, percent, plain

MEASURES = (ONSET, ACCURACY)
COLUMNS = [
    "stage", "condition", "variant", "subset", "scale", "planned", "done", "problems", "collapsed",
    *[f"{m.stem}{part}" for m in MEASURES for part in ("", "_low", "_high")],
]  # fmt: skip
BAR_INCHES, PANEL_INCHES, MARGIN_INCHES = 0.25, 0.45, 1.0

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


def draw(results: Results) -> list[Drawing]:
    return [_drawing(results, stage) for (stage,), _ in groups(results.conditions, "stage")]


def _drawing(results: Results, stage: str) -> Drawing:
    table = select(results.conditions, "stage", stage)
    panels = [(variant, rows) for (variant,), rows in groups(table, "variant")]
    return Drawing(
        name=f"bars_{stage}",
        title=f"Onset rate and accuracy by condition, stage {plain(stage)}",
        caption=CAPTION,
        alt=_alt(stage, panels),
        figure=_figure(panels),
        data=table.loc[:, COLUMNS],
    )


def _alt(stage: str, panels: list[tuple[str, list[TableRow]]]) -> str:
    baselines = [f"{variant} {percent(row[ONSET.stem])}" for variant, rows in panels if (row := baseline_of(rows))]
    n_bars = max(len(rows) for _, rows in panels)
    reference = f" Baseline onset rate by variant: {', '.join(baselines)}." if baselines else ""
    return plain(
        f"Horizontal bars of onset rate and accuracy for {n_bars} conditions of stage {stage}.{reference} "
        "Every value is in the conditions table."
    )


def _figure(panels: list[tuple[str, list[TableRow]]]) -> Figure:
    sizes = [BAR_INCHES * len(rows) + PANEL_INCHES for _, rows in panels]
    figure = Figure(figsize=(WIDTH, sum(sizes) + MARGIN_INCHES), layout=ConstrainedLayoutEngine(w_pad=0.1))
    grid = figure.subplots(len(panels), len(MEASURES), sharey="row", squeeze=False, height_ratios=sizes)
    for (variant, rows), pair in zip(panels, grid, strict=True):
        for measure, axes in zip(MEASURES, pair, strict=True):
            _panel(axes, rows, measure)
            axes.set_title(measure.label if len(panels) == 1 else f"{measure.label} · {variant}")
        _name_rows(pair[0], rows)
        _print_counts(pair[-1], rows)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, rows: list[TableRow], measure: Measure) -> None:
    percent_axis(axes, "x")
    axes.tick_params(axis="y", length=0)
    _reference(axes, baseline_of(rows), measure)
    for y, row in enumerate(rows):
        _bar(axes, y, row, measure)
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the table's order, from the top


def _reference(axes: Axes, row: TableRow | None, measure: Measure) -> None:
    if row is None or is_missing(row[measure.stem]):
        return
    if not is_missing(row[f"{measure.stem}_low"]):
        axes.axvspan(row[f"{measure.stem}_low"], row[f"{measure.stem}_high"], color=BAND, lw=0, zorder=0)
    axes.axvline(row[measure.stem], color=INK, lw=1, ls=(0, (4, 3)), zorder=2.5)


def _bar(axes: Axes, y: int, row: TableRow, measure: Measure) -> None:
    if is_missing(row[measure.stem]):
        axes.text(0.01, y, "no completed rows", va="center", style="italic", color=MUTED, fontsize=8)
        return
    axes.barh(y, row[measure.stem], height=0.66, lw=1, zorder=2, **_fill(row, measure.color))
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
    axes.set_yticks(range(len(rows)), names, fontsize=8.5 if max(map(len, names)) <= 34 else 7)


def _print_counts(axes: Axes, rows: list[TableRow]) -> None:
    for y, row in enumerate(rows):
        counts = f"{count(row['done'])}/{count(row['planned'])}"
        axes.text(1.02, y, counts, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED)


def _legend() -> list[Patch | Line2D]:
    return [
        Line2D([], [], color=INK, lw=1, ls=(0, (4, 3)), label="baseline"),
        Patch(color=BAND, label="its 95% interval"),
        Line2D([], [], color=INK, lw=1.1, marker="|", ms=5, label="95% interval"),
        Patch(facecolor=PAPER, edgecolor=INK, hatch=HOLLOW_HATCH, label="collapsed: no claim"),
    ]
