"""Onset rate and accuracy of the baseline by prompt variant, with the band that sampling noise alone would fill."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import lane
from raybt.report.figures.panels import panels
from raybt.report.figures.style import ACCURACY, BAND, INK, MUTED, ONSET, percent_axis
from raybt.report.results import Results, TableRow, study_rows
from raybt.report.wording import count, is_missing, plain

COLUMNS = [
    "variant", "planned", "done", "failed", "problems",
    *[f"{m.stem}{part}" for m in (ONSET, ACCURACY) for part in ("", "_low", "_high")],
    "band_low", "band_high", "reference", "difference", "difference_low", "difference_high", "p", "p_holm",
]  # fmt: skip
LANE_INCHES = 0.34

CAPTION = (
    "The model as it is, under each wording of the prompt: on the left the share of completions in which it "
    "backtracks, on the right the share with the correct answer; lines are 95% intervals, clustered by problem. The "
    "grey band is where a variant's onset rate would lie in 95 of 100 runs if the wording made no difference and only "
    "the sampling of completions did. A point inside its band is no evidence that the wording matters, however "
    "different it looks from its neighbours. The numbers at the right edge are completions done / planned."
)


def draw(results: Results) -> list[Drawing]:
    rows = study_rows(results, "variants")
    return [_drawing(results, rows)] if rows else []


def _drawing(results: Results, rows: list[TableRow]) -> Drawing:
    names = ", ".join(row["variant"] for row in rows)
    return Drawing(
        name="variants",
        title="Onset rate and accuracy by prompt variant",
        caption=CAPTION,
        alt=plain(f"Onset rate and accuracy of the baseline for prompt variants {names}. Every value is in the table."),
        figure=_figure(rows),
        data=results.study["variants"].loc[:, COLUMNS],
    )


def _figure(rows: list[TableRow]) -> Figure:
    figure, (onset, accuracy) = panels(2, 2, LANE_INCHES * len(rows) + 0.7, 0.4, sharey=True)
    for measure, axes in ((ONSET, onset), (ACCURACY, accuracy)):
        percent_axis(axes, "x")
        axes.tick_params(axis="y", length=0)
        axes.set_title(measure.label)
        for y, row in enumerate(rows):
            lane(axes, y, row, measure.stem, measure)
    for y, row in enumerate(rows):
        _band(onset, y, row)
        counts = f"{count(row['done'])}/{count(row['planned'])}"
        accuracy.text(1.02, y, counts, transform=accuracy.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED)
    onset.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    onset.set_ylim(len(rows) - 0.4, -0.6)
    handles = [Line2D([], [], color=INK, lw=1.2, label="95% interval"), Patch(color=BAND, label="sampling noise alone")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _band(axes: Axes, y: int, row: TableRow) -> None:
    if not is_missing(row["band_low"]):
        reach = row["band_high"] - row["band_low"]
        axes.add_patch(Rectangle((row["band_low"], y - 0.36), reach, 0.72, color=BAND, lw=0, zorder=0.5))
