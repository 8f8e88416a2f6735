"""What random controls gave, drawn beside their target: subset controls and direction controls told apart."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from raybt.report.figures.marks import point
from raybt.report.figures.style import DIRECTIONS, MATCHED, PAPER, Look
from raybt.report.results import CONTROL, DIRECTION, TableRow, is_collapsed
from raybt.report.wording import is_missing

LOOKS = {CONTROL: MATCHED, DIRECTION: DIRECTIONS}
LABELS = {CONTROL: "matched random subsets", DIRECTION: "random directions"}
LANE = 0.17  # of a row's height


def by_target(controls: list[TableRow]) -> dict[str, list[TableRow]]:
    found: dict[str, list[TableRow]] = {}
    for row in controls:
        found.setdefault(row["control_of"], []).append(row)
    return found


def lanes(axes: Axes, y: float, controls: list[TableRow], stem: str) -> None:
    """One lane a role, from `y` down: every control a mark, the range they span a light band."""
    for role, look in LOOKS.items():
        rows = [row for row in controls if row["role"] == role and not is_missing(row[stem])]
        if rows:
            _lane(axes, y, rows, stem, look)
            y += LANE


def _lane(axes: Axes, y: float, rows: list[TableRow], stem: str, look: Look) -> None:
    rates = [row[stem] for row in rows]
    low, reach = min(rates), max(rates) - min(rates)
    axes.add_patch(Rectangle((low, y - LANE / 2), reach, LANE, color=look.color, alpha=0.25, lw=0, zorder=2.6))
    for row, rate in zip(rows, rates, strict=True):
        point(axes, rate, y, look, is_collapsed(row), mew=0.7, zorder=4 + is_collapsed(row))


def keys(controls: list[TableRow]) -> list[Line2D]:
    """Legend entries of the roles that are there."""
    roles = {row["role"] for row in controls}
    return [
        Line2D([], [], color=look.color, marker=look.marker, ms=look.size + 1, ls="none", mew=0.7, label=LABELS[role])
        for role, look in LOOKS.items()
        if role in roles
    ]


def faint(axes: Axes, row: TableRow, x: str, y: str) -> None:
    """A control in a scatter of two measures, behind what it is a control of."""
    if is_missing(row[x]) or is_missing(row[y]):
        return
    look = LOOKS[row["role"]]
    face = PAPER if is_collapsed(row) else look.color
    axes.plot(
        [row[x]], [row[y]], marker=look.marker, ms=look.size, mfc=face, mec=look.color, mew=0.7, alpha=0.55, zorder=1.5
    )
