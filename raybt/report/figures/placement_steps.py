"""Where along the completion onsets fall."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from raybt.report.families import Family, families
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import estimates, or_nan
from raybt.report.figures.panels import panels, small_title
from raybt.report.figures.style import INK, MUTED, ONSET, PAPER
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.shown import left_out
from raybt.report.wording import count, plain

COLUMNS = [
    "stage", "condition", "variant", "start", "end", "onsets", "of", "share", "share_low", "share_high",
]  # fmt: skip
MOST = 12
FILL = "#a9cce3"  # a light shade of the onset's blue, on which lines are seen

CAPTION = (
    "Where the first backtracking phrase of a completion falls, as a share of the completion's length: 0% is its "
    "beginning, 100% its end. Each panel is a condition: bars are the share of its onsets in each stretch (they sum to "
    "100%), lines their 95% intervals, clustered by problem; the dashed outline is the baseline's, for comparison. "
    "Conditions may move onsets without changing their number, and the other way round: the number of onsets that a "
    "panel rests on stands under its title, and with few the bars mean little. Hollow bars are a collapsed condition."
)


def draw(results: Results) -> list[Drawing]:
    return [_drawing(family) for family in families(results, "placement", COLUMNS, MOST)]


def _drawing(family: Family) -> Drawing:
    names = ", ".join(list(family.by_condition)[:8])
    return Drawing(
        name=f"placement_{family.name}",
        title=f"Where onsets fall along the completion, {family.where}",
        caption=CAPTION,
        alt=plain(
            f"Share of onsets by place in the completion for {names}, {family.where}. Every value is in the CSV "
            "beside the figure."
        ),
        figure=_figure(family),
        data=family.data,
        note=left_out(family.hidden),
    )


def _figure(family: Family) -> Figure:
    parts = family.by_condition
    baseline = next((rows for rows in parts.values() if is_baseline(rows[0])), [])
    targets = {name: rows for name, rows in parts.items() if not is_baseline(rows[0])} or parts
    figure, grid = panels(len(targets), 3, 1.9, 0.7, sharex=True, sharey=True)
    for (name, rows), axes in zip(targets.items(), grid, strict=True):
        _bars(axes, rows, hollow=name in family.collapsed)
        _steps(axes, baseline)
        small_title(axes, f"{family.called(name)}\n")
        onsets = f"{count(max(row['of'] for row in rows))} onsets"
        axes.text(0, 1.03, onsets, transform=axes.transAxes, fontsize=7.5, color=MUTED)
    for axes in grid:
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    figure.supxlabel("Place in the completion", fontsize=9)
    figure.supylabel("Share of the onsets", fontsize=9)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=3)
    return figure


def _bars(axes: Axes, rows: list[TableRow], hollow: bool) -> None:
    rows = [row for row in rows if row["of"]]
    low, share, high = estimates(rows, "share")
    starts, widths = [row["start"] for row in rows], [row["end"] - row["start"] for row in rows]
    middles = [start + width / 2 for start, width in zip(starts, widths, strict=True)]
    face = PAPER if hollow else FILL
    axes.bar(starts, share, width=widths, align="edge", facecolor=face, edgecolor=ONSET.color, lw=0.9)
    axes.vlines(middles, low, high, color=ONSET.color, lw=1.1)


def _steps(axes: Axes, rows: list[TableRow]) -> None:
    """What the baseline does, as an outline over the bars."""
    if rows:
        edges = [row["start"] for row in rows] + [rows[-1]["end"]]
        axes.stairs([or_nan(row["share"]) for row in rows], edges, color=INK, lw=1.2, ls=(0, (3, 1.5)), zorder=4)


def _legend() -> list[Patch | Line2D]:
    return [
        Patch(facecolor=FILL, edgecolor=ONSET.color, label="condition"),
        Line2D([], [], color=ONSET.color, lw=1.1, label="its 95% interval"),
        Line2D([], [], color=INK, lw=1.2, ls=(0, (3, 1.5)), label="baseline"),
    ]
