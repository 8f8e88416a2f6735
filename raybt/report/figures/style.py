"""One look for every figure: colours that colour-blind readers tell apart, and a second cue beside each colour."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

WIDTH = 8.0  # inches; the report shows figures at about this width, so font sizes are true
INK, MUTED, PAPER = "#1f1f1f", "#6b6b6b", "#ffffff"
BAND = "#d9d9d9"  # the baseline's interval
BASELINE_FILL = "#5c5c5c"
HOLLOW_HATCH = "////"

_SETTINGS = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs everywhere
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "figure.facecolor": PAPER,
    "savefig.dpi": 200,
    "svg.hashsalt": "raybt",  # without it the ids in an SVG are random
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    """Colour with its second and third cue; `line` is a matplotlib dash pattern."""

    color: str
    marker: str
    size: float
    line: Any = "none"


@dataclass(frozen=True)
class Measure(Look):
    """How a measure looks wherever it is drawn: `stem` names its columns in the conditions table."""

    stem: str = ""
    label: str = ""


ONSET = Measure("#0072B2", "o", 5.5, "-", "onset_rate", "Onset rate")
ACCURACY = Measure("#D55E00", "s", 7, "--", "accuracy_all", "Accuracy, of all completions")

BASELINE_LOOK = Look(INK, "D", 5.5, (0, (4, 3)))
MATCHED = Look("#7a7a7a", "o", 3, "none")  # random subsets matched to a target
DIRECTIONS = Look("#8f4a8a", "^", 3.6, "none")  # random directions of the same norm

SERIES = (
    Look("#0072B2", "o", 4.5, "-"),
    Look("#D55E00", "s", 4.5, (0, (5, 1.5))),
    Look("#007a59", "^", 5, (0, (1.2, 1.2))),
    Look("#a3518a", "v", 5, (0, (5, 1.5, 1.2, 1.5))),
    Look("#b07d00", "P", 5, (0, (8, 2))),
    Look("#3a9bd1", "X", 5, (0, (3, 1, 1, 1, 1, 1))),
)
"""For what has no meaning of its own but must be told apart, and be named beside it."""


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save inside: independent of the user's own matplotlib settings, which come back afterwards."""
    with style.context(_SETTINGS, after_reset=True):
        yield


def as_share(value: float, _: object) -> str:
    """A tick of an axis that need not reach from 0 to 1; nothing beyond them."""
    return f"{100 * value:.4g}%" if -1e-9 <= value <= 1 + 1e-9 else ""


def percent_axis(axes: Axes, which: str) -> None:
    """A 0-100% axis for shares in 0..1, with room for a marker that sits on its end."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlim if which == "x" else axes.set_ylim)(-0.02, 1.02)
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.grid(axis="x" if which == "x" else "y")
