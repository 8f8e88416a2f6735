"""The figures of a report. A new one is a module with `draw(results) -> list[Drawing]`, added to FIGURES."""

from raybt.report.figures import scale_curve, subset_bars
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.style import house_style
from raybt.report.results import Results

FIGURES = (subset_bars.draw, scale_curve.draw)


def drawings(results: Results) -> list[Drawing]:
    with house_style():
        return [drawing for draw in FIGURES for drawing in draw(results)]
