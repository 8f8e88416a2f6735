"""What the lens reads in each layer, at onsets and at their controls."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import band_key, key, line_with_band, or_nan, point
from raybt.report.figures.panels import panels
from raybt.report.figures.role_looks import look_of
from raybt.report.results import Results, TableRow, groups, select, study_groups
from raybt.report.roles import called
from raybt.report.wording import is_missing, plain, plural

COLUMNS = [
    "stage", "role", "place", "component", "layer", "planned", "done", "failed", "problems",
    "log_probability", "log_probability_low", "log_probability_high", "logit", "logit_low", "logit_high", "rank",
]  # fmt: skip
AFTER = {"attn": 0.0, "mlp": 0.5}  # of a layer: the stream is read twice in each

CAPTION = (
    "The logit lens: the model's inner state at the position before an event is sent straight to the output, after "
    "every attention (at a layer's number) and every MLP (half a step on), as if the model ended there. Above, the "
    "log-probability that this gives to the event's own next token (0 would be certainty); bands are 95% intervals, "
    "clustered by problem. Below, the median number of tokens that it holds for likelier, on a scale that is "
    "logarithmic above 1: at 0 it is the token the model would write. At an onset the token is the one that begins the "
    "backtracking phrase. Controls follow the same token where it was not written: at the same position of other "
    "completions, and at starts of sentences. Where the onset's line parts from its controls', the decision to turn "
    "back becomes readable."
)


def draw(results: Results) -> list[Drawing]:
    stages = [
        (stage, [row for row in rows if row["place"]]) for (stage,), rows in study_groups(results, "lens", "stage")
    ]
    return [_drawing(results, stage, rows) for stage, rows in stages if rows]


def _drawing(results: Results, stage: str, rows: list[TableRow]) -> Drawing:
    table = select(results.study["lens"], "stage", stage)
    roles = list(dict.fromkeys(called(row["role"]) for row in rows))
    return Drawing(
        name=f"lens_{stage}",
        title=f"What the lens reads by layer, stage {plain(stage)}",
        caption=CAPTION,
        alt=plain(
            f"Log-probability and rank of the event's token by layer, for {', '.join(roles)}, stage {stage}. Every "
            "value is in the lens table."
        ),
        figure=_figure(table.dropna(subset="place")),
        data=table.loc[:, COLUMNS],
    )


def _figure(table: pd.DataFrame) -> Figure:
    figure, (above, below) = panels(2, 1, 2.6, 0.5, sharex=True)
    handles = []
    for (role,), rows in groups(table, "role"):
        rows = sorted(rows, key=_place)
        look, xs = look_of(role), [_place(row) for row in rows]
        line_with_band(above, xs, rows, "log_probability", look)
        below.plot(xs, [or_nan(row["rank"]) for row in rows], color=look.color, ls=look.line)
        for axes, stem in ((above, "log_probability"), (below, "rank")):
            for x, row in zip(xs, rows, strict=True):
                point(axes, x, or_nan(row[stem]), look, ms=look.size - 1)
        handles.append(key(look, f"{called(role)} ({_counts(rows)})"))
    _label(above, below, max((or_nan(rank) for rank in table["rank"] if not is_missing(rank)), default=1.0))
    figure.legend(handles=[*handles, band_key()], loc="outside upper center", ncols=2, handlelength=3)
    return figure


def _label(above: Axes, below: Axes, deepest: float) -> None:
    above.set_title("Log-probability of the event's token")
    below.set_title("Tokens held for likelier (rank; 0 is first)")
    below.set_yscale("symlog", linthresh=1)
    below.set_yticks([0, *(10**power for power in range(6))])
    below.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    below.set_ylim(max(deepest, 1) * 1.6, -0.3)
    below.set_xlabel("Layer")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        axes.grid(axis="y")


def _place(row: TableRow) -> float:
    return row["layer"] + AFTER.get(row["component"], 0.0)


def _counts(rows: list[TableRow]) -> str:
    return plural(max(row["done"] for row in rows), "event")
