"""The figures of a report. A new one is a module with `draw(results) -> list[Drawing]`, added to FIGURES."""

from raybt.report.figures import (
    attribution_lines,
    lens_curves,
    phrase_changes,
    placement_steps,
    scale_curve,
    scan_map,
    search_rungs,
    strata_lanes,
    subset_bars,
    survival_curves,
    sweeps,
    trade_off,
    variant_lanes,
    word_changes,
)
from raybt.report.figures.drawing import Drawing
from raybt.report.figures.style import house_style
from raybt.report.listed import outside_search
from raybt.report.results import Results

FIGURES = {
    "Figures": (subset_bars, scale_curve, sweeps, trade_off),
    "Search": (search_rungs,),
    "Prompt variants": (variant_lanes,),
    "Accuracy and onsets": (strata_lanes,),
    "Onsets along the text": (placement_steps, survival_curves, phrase_changes),
    "Scan": (scan_map,),
    "Lens": (lens_curves,),
    "Attribution": (attribution_lines,),
    "Continuation": (word_changes,),
}
"""Title of the report's section -> the modules that draw its figures."""


def drawings(results: Results) -> dict[str, list[Drawing]]:
    """Section -> its figures; a section without any is not there."""
    shown = outside_search(results)
    with house_style():
        found = {
            section: [drawing for module in modules for drawing in module.draw(shown)]
            for section, modules in FIGURES.items()
        }
    return {section: drawn for section, drawn in found.items() if drawn}
