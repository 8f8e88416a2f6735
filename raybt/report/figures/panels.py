"""Small multiples: a grid of panels whose last row may be short."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raybt.report.figures.style import WIDTH


def panels(n: int, columns: int, inches: float, margin: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the report's width with `n` panels, each `inches` high; `margin` is for what surrounds them."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH, inches * rows + margin), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, **options).ravel())
    for axes in grid[n:]:
        axes.set_axis_off()
    return figure, grid[:n]


def small_title(axes: Axes, name: str, fits: int = 26) -> None:
    """A panel's title in a size at which it stays above its own panel."""
    axes.set_title(name, fontsize=9.5 if len(name) <= fits else 7.5 if len(name) <= 1.35 * fits else 6)
