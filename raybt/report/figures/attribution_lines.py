"""What each attention and MLP adds to the onset's logit, layer by layer."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.marks import estimates, key, point
from raybt.report.figures.panels import panels
from raybt.report.figures.role_looks import look_of
from raybt.report.figures.style import MUTED
from raybt.report.results import Results, TableRow, select, study_groups
from raybt.report.roles import called
from raybt.report.wording import is_missing, plain

COLUMNS = [
    "stage", "role", "component", "kind", "layer", "done", "problems", "attribution", "attribution_low",
    "attribution_high",
]  # fmt: skip
KINDS = {"attn": "Attention", "mlp": "MLP"}
MANY_LAYERS = 12  # beyond these the two panels stand one above the other
ASIDE = 0.2  # of a layer between two roles, so that their bars do not cover each other

CAPTION = (
    "Direct logit attribution: how much each layer's attention and MLP adds to the logit of the event's "
    "next token, read from what it writes into the model's running state with the final norm held as it is. All "
    "components together sum to the logit. Points above the zero line speak for the token, points below against it; "
    "bars are 95% intervals, clustered by problem. A component that adds much at onsets and little at both kinds of "
    "controls carries the turn; one that adds as much everywhere only knows the word. This is a direct effect: what a "
    "component does by way of later layers is not in it, the scan shows that."
)


def draw(results: Results) -> list[Drawing]:
    return [_drawing(results, stage, rows) for (stage,), rows in study_groups(results, "attribution", "stage")]


def _drawing(results: Results, stage: str, rows: list[TableRow]) -> Drawing:
    return Drawing(
        name=f"attribution_{stage}",
        title=f"What each layer adds to the onset's logit, stage {plain(stage)}",
        caption=CAPTION,
        alt=plain(
            f"Attribution to the event's logit by layer, attention and MLP, for onsets and controls of stage {stage}. "
            "Every value is in the attribution table."
        ),
        figure=_figure([row for row in rows if not is_missing(row["layer"])]),
        data=select(results.study["attribution"], "stage", stage).loc[:, COLUMNS],
    )


def _figure(rows: list[TableRow]) -> Figure:
    many = max((row["layer"] for row in rows), default=0) >= MANY_LAYERS
    figure, grid = panels(len(KINDS), 1 if many else 2, 2.4 if many else 3.2, 0.5, sharey=True)
    roles = list(dict.fromkeys(row["role"] for row in rows))
    for (kind, title), axes in zip(KINDS.items(), grid, strict=True):
        axes.set_title(title)
        _panel(axes, [row for row in rows if row["kind"] == kind], roles)
    for axes in grid[:: 1 if many else 2]:
        axes.set_ylabel("Added to the logit")
    handles = [key(look_of(role), called(role)) for role in roles]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=3)
    return figure


def _panel(axes: Axes, rows: list[TableRow], roles: list[str]) -> None:
    axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
    axes.grid(axis="y")
    axes.set_xlabel("Layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place, role in enumerate(roles):
        mine = sorted((row for row in rows if row["role"] == role), key=lambda row: row["layer"])
        _line(axes, mine, role, (place - (len(roles) - 1) / 2) * ASIDE)


def _line(axes: Axes, rows: list[TableRow], role: str, aside: float) -> None:
    look, xs = look_of(role), [row["layer"] + aside for row in rows]
    low, middle, high = estimates(rows, "attribution")
    axes.vlines(xs, low, high, color=look.color, lw=1)
    axes.plot(xs, middle, color=look.color, ls=look.line, lw=1, alpha=0.8)
    for x, y in zip(xs, middle, strict=True):
        point(axes, x, y, look, ms=look.size - 0.8)
