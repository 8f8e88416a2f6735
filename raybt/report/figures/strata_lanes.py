"""Accuracy of completions with and without an onset."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raybt.report.families import Family, families
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import key, lane
from raybt.report.figures.panels import panels
from raybt.report.figures.style import MUTED, Look, percent_axis
from raybt.report.results import Results, TableRow
from raybt.report.shown import left_out
from raybt.report.wording import count, plain

COLUMNS = [
    "stage", "condition", "variant", "stratum", "basis", "done", "problems", "accuracy", "accuracy_low",
    "accuracy_high",
]  # fmt: skip
STRATA = {
    "with": ("with an onset", Look("#0072B2", "o", 5), -0.13),
    "without": ("without one", Look("#D55E00", "s", 4.6), 0.13),
}
MOST, LANE_INCHES = 24, 0.34

CAPTION = (
    "Are completions in which the model backtracks more often right? For each condition the accuracy of completions "
    "with an onset (circles) and without one (squares), with 95% intervals clustered by problem: over all of them "
    "(truncated and unparseable ones count as not correct), over those that gave an answer, and by problem, where only "
    "problems that have both kinds count and each weighs the same. Hard problems bring more backtracking and more "
    "errors, so the first two panels mix the two; the last one compares like with like. None of them says that "
    "backtracking causes the difference. The numbers of completions with / without an onset stand at the right."
)


def draw(results: Results) -> list[Drawing]:
    return [_drawing(family) for family in families(results, "strata", COLUMNS, MOST)]


def _drawing(family: Family) -> Drawing:
    return Drawing(
        name=f"strata_{family.name}",
        title=f"Accuracy with and without an onset, {family.where}",
        caption=CAPTION,
        alt=plain(
            f"Accuracy of completions with and without an onset, by condition, {family.where}. Every value is in the "
            "table of accuracy and onsets."
        ),
        figure=_figure(family),
        data=family.data,
        note=left_out(family.hidden),
    )


def _figure(family: Family) -> Figure:
    lanes = [row for row in family.rows if row["stratum"] in STRATA]
    bases, names = list(dict.fromkeys(row["basis"] for row in lanes)), list(family.by_condition)
    figure, grid = panels(len(bases), 3, LANE_INCHES * len(names) + 0.6, 0.5, sharey=True)
    for basis, axes in zip(bases, grid, strict=True):
        axes.set_title(basis[:1].upper() + basis[1:])
        _panel(axes, [row for row in lanes if row["basis"] == basis], names)
    grid[0].set_yticks(range(len(names)), [family.called(name) for name in names], fontsize=8)
    _print_counts(grid[-1], [row for row in lanes if row["basis"] == bases[0]], names)
    handles = [key(look, label) for label, look, _ in STRATA.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _panel(axes: Axes, rows: list[TableRow], names: list[str]) -> None:
    percent_axis(axes, "x")
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(axis="y", length=0)
    for row in rows:
        _, look, aside = STRATA[row["stratum"]]
        lane(axes, names.index(row["condition"]) + aside, row, "accuracy", look)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _print_counts(axes: Axes, rows: list[TableRow], names: list[str]) -> None:
    for y, name in enumerate(names):
        done = " / ".join(count(row["done"]) for row in rows if row["condition"] == name)
        axes.text(1.03, y, done, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED)
