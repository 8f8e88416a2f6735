"""Onset rate and accuracy against the scale of an intervention: the dose-response picture."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.panels import panels
from raybt.report.figures.response import MEASURES, counts, response, response_keys
from raybt.report.figures.style import MUTED, percent_axis
from raybt.report.figures.sweeps import LAYER
from raybt.report.results import Results, TableRow, groups, is_baseline, without_controls
from raybt.report.wording import compact, is_missing, plain, plural

NO_CHANGE = 1.0  # the scale at which an intervention is the baseline
FEWEST_SCALES, MOST_CURVES = 3, 18
PANEL_INCHES, MARGIN_INCHES = 2.5, 0.7
COLUMNS = [
    "stage", "subset", "variant", "scale", "condition", "planned", "done", "problems", "collapsed",
    *[f"{m.stem}{part}" for m in MEASURES for part in ("", "_low", "_high")],
]  # fmt: skip

CAPTION = (
    "How much of a subset's output is left (scale) against what the model does. At scale 0 the output is removed; "
    "at scale 1 nothing is changed, so the point there is the baseline. The solid line with circles is the share of "
    "completions in which the model backtracks, the dashed line with squares the share with the correct answer; "
    "bands and bars are 95% intervals, clustered by problem. Read from right to left: an intervention that acts on "
    "backtracking bends the solid line down while the dashed one stays level. Where both fall together the model is "
    "breaking. Hollow points are collapsed conditions and allow no claim about backtracking. Completions done / "
    "planned stand under each panel's title."
)


@dataclass(frozen=True)
class Curve:
    subset: str
    variant: str
    rows: list[TableRow]  # by scale, the baseline standing in at 1


def draw(results: Results) -> list[Drawing]:
    stages = ((stage, _curves(rows)) for (stage,), rows in groups(without_controls(results).conditions, "stage"))
    return [_drawing(stage, curves) for stage, curves in stages if curves]


def _curves(rows: list[TableRow]) -> list[Curve]:
    treated = pd.DataFrame([row for row in rows if _is_scaled(row)])
    baselines = {row["variant"]: row for row in rows if is_baseline(row)}
    found = (
        Curve(subset, variant, _by_scale(points, baselines.get(variant)))
        for (subset, variant), points in groups(treated, "subset", "variant")
        if not LAYER.fullmatch(subset)  # drawn by layer, in sweeps
    )
    return [curve for curve in found if len({row["scale"] for row in curve.rows}) >= FEWEST_SCALES]


def _is_scaled(row: TableRow) -> bool:
    """Strengths of other operations are on no common axis with factors, at which 1 is no change."""
    scaled = row.get("operation") in (None, "scale") or is_missing(row["operation"])
    return scaled and not is_baseline(row) and not is_missing(row["scale"])


def _by_scale(points: list[TableRow], baseline: TableRow | None) -> list[TableRow]:
    if baseline is not None and all(point["scale"] != NO_CHANGE for point in points):
        points = [*points, {**baseline, "scale": NO_CHANGE}]
    return sorted(points, key=lambda row: row["scale"])


def _drawing(stage: str, curves: list[Curve]) -> Drawing:
    names = ", ".join(dict.fromkeys(curve.subset for curve in curves))
    drawn = [{**row, "subset": curve.subset} for curve in curves for row in curve.rows]
    return Drawing(
        name=f"curve_{stage}",
        title=f"Onset rate and accuracy by scale, stage {plain(stage)}",
        caption=CAPTION,
        alt=plain(f"Onset rate and accuracy against scale for {names}. Every value is in the conditions table."),
        figure=_figure(curves[:MOST_CURVES]),
        data=pd.DataFrame(drawn).loc[:, COLUMNS],
        note=_left_out(len(curves) - MOST_CURVES),
    )


def _left_out(n: int) -> str:
    return f"The CSV beside the figure holds {plural(n, 'more curve')}." if n > 0 else ""


def _figure(curves: list[Curve]) -> Figure:
    n_columns = len(curves) if len(curves) < 3 else 2 if len(curves) == 4 else 3
    margin = MARGIN_INCHES if n_columns > 1 else MARGIN_INCHES + 0.6
    figure, grid = panels(len(curves), n_columns, PANEL_INCHES, margin, sharey=True)
    several = len({curve.variant for curve in curves}) > 1
    for curve, axes in zip(curves, grid, strict=True):
        _panel(axes, curve, several)
    figure.supxlabel("Scale: share of the output that is kept", fontsize=9)
    figure.legend(handles=response_keys(), loc="outside upper center", ncols=4, handlelength=3)
    return figure


def _panel(axes: Axes, curve: Curve, several_variants: bool) -> None:
    percent_axis(axes, "y")
    _scale_axis(axes, [row["scale"] for row in curve.rows])
    response(axes, [row["scale"] for row in curve.rows], curve.rows)
    name = f"{curve.subset} · {curve.variant}" if several_variants else curve.subset
    axes.set_title(f"{name}\n", fontsize=9.5 if len(name) < 26 else 7.5)
    axes.text(0, 1.03, counts(curve.rows, "scale"), transform=axes.transAxes, fontsize=7.5, color=MUTED)


def _scale_axis(axes: Axes, scales: list[float]) -> None:
    reach = max(scales) - min(scales)
    axes.set_xlim(min(scales) - 0.06 * reach, max(scales) + 0.06 * reach)
    axes.axvline(NO_CHANGE, color=MUTED, lw=0.8, ls=":", zorder=0)
    if len(scales) <= 8:
        axes.set_xticks(scales, [compact(scale) for scale in scales], fontsize=7.5)
