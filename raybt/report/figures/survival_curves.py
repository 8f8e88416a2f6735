"""The share of completions that have not turned back yet, token by token."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raybt.report.families import Family, families
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import estimates
from raybt.report.figures.panels import panels
from raybt.report.figures.style import BASELINE_LOOK, SERIES, Look, percent_axis
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.shown import left_out
from raybt.report.wording import count, plain

COLUMNS = [
    "stage", "condition", "variant", "token", "at_risk", "onsets", "survival", "survival_low", "survival_high",
]  # fmt: skip
A_PANEL, MOST = 5, 20  # conditions beside the baseline
PANEL_INCHES = 2.7
LABEL_APART = 0.062  # of the panel's height

CAPTION = (
    "The share of completions in which the model has not turned back up to each generated token (Kaplan and Meier's "
    "estimate: a completion that ends without an onset counts up to its end, and drops out there). Each line starts at "
    "100% and steps down where onsets fall; a line that stays above the baseline's (black, dashed) turns back less or "
    "later. Bands are 95% intervals, clustered by problem. Labels stand in the order of the lines' ends, each "
    "with the number of completions at the start. Few completions are long, so a line's right end rests on few."
)


def draw(results: Results) -> list[Drawing]:
    return [_drawing(family) for family in families(results, "survival", COLUMNS, MOST)]


def _drawing(family: Family) -> Drawing:
    names = ", ".join(list(family.by_condition)[:8])
    return Drawing(
        name=f"survival_{family.name}",
        title=f"No onset yet, by token, {family.where}",
        caption=CAPTION,
        alt=plain(
            f"Share of completions without an onset so far, by generated token, for {names}, {family.where}. Every "
            "value is in the CSV beside the figure."
        ),
        figure=_figure(family),
        data=family.data,
        note=left_out(family.hidden),
    )


def _figure(family: Family) -> Figure:
    parts = family.by_condition
    targets = [name for name, rows in parts.items() if not is_baseline(rows[0])]
    baseline = [name for name in parts if name not in targets]
    chunks = [targets[start : start + A_PANEL] for start in range(0, len(targets), A_PANEL)] or [[]]
    figure, grid = panels(len(chunks), 1, PANEL_INCHES, 0.4, sharex=True)
    for chunk, axes in zip(chunks, grid, strict=True):
        looks = dict.fromkeys(baseline, BASELINE_LOOK) | dict(zip(chunk, SERIES, strict=False))
        for name, look in looks.items():
            _line(axes, parts[name], look, thin=name in family.collapsed)
        _labels(axes, {_label(family, name): (parts[name][-1], look) for name, look in looks.items()})
        axes.set_ylabel("No onset yet")
        percent_axis(axes, "y")
    grid[-1].set_xlabel("Generated token")
    return figure


def _label(family: Family, name: str) -> str:
    return f"{family.called(name)} · {count(family.by_condition[name][0]['at_risk'])}"


def _line(axes: Axes, rows: Sequence[TableRow], look: Look, thin: bool) -> None:
    low, middle, high = estimates(rows, "survival")
    tokens = [row["token"] for row in rows]
    axes.fill_between(tokens, low, high, step="post", color=look.color, alpha=0.1, lw=0)
    axes.step(tokens, middle, where="post", color=look.color, ls=look.line, lw=0.9 if thin else 1.6)


def _labels(axes: Axes, ends: dict[str, tuple[TableRow, Look]]) -> None:
    """Each line's name at its end, moved apart where ends lie close; a short lead shows what belongs to what."""
    by_height = sorted(ends.items(), key=lambda end: end[1][0]["survival"])
    heights = _apart([row["survival"] for _, (row, _) in by_height])
    for (name, (row, look)), height in zip(by_height, heights, strict=True):
        at_end = (row["token"], row["survival"])
        lead = {
            "arrowstyle": "-",
            "color": look.color,
            "lw": 0.8,
            "ls": "-",
            "shrinkA": 0,
            "shrinkB": 1,
            "relpos": (0, 0.5),
        }
        axes.annotate(
            name, at_end, (1.03, (height + 0.02) / 1.04), xycoords="data", textcoords="axes fraction", va="center",
            fontsize=8, color=look.color, arrowprops=lead, annotation_clip=False,
        )  # fmt: skip


def _apart(heights: list[float]) -> list[float]:
    """Heights in rising order, none nearer to the next than a label is high, and about where they were.

    Pushed up from below and down from above; the mean of two such orders keeps the distance too.
    """
    up, down = [], []
    for height in heights:
        up.append(max(height, up[-1] + LABEL_APART) if up else height)
    for height in reversed(heights):
        down.insert(0, min(height, down[0] - LABEL_APART) if down else height)
    placed = [(above + below) / 2 for above, below in zip(up, down, strict=True)]
    return [height - min(placed[0], 0.0) for height in placed]
