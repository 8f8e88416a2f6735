"""From finished tables to the report's files, as named bytes."""

from collections.abc import Mapping, Sequence

from raybt.report import opening, provenance, tables
from raybt.report.blocks import Block, Document, Paragraph, Picture, Section
from raybt.report.figures import Drawing, drawings
from raybt.report.glossary import glossary
from raybt.report.listed import listed
from raybt.report.pages import html_page, markdown_page
from raybt.report.results import Results
from raybt.report.sections import (
    attribution,
    continuation,
    controls,
    decisions,
    lens,
    onsets,
    scan,
    search,
    strata,
    variants,
)
from raybt.report.side_by_side import side_by_side

__all__ = ["Results", "compose", "render"]

STUDY = {
    "Search": search,
    "Controls": controls,
    "Prompt variants": variants,
    "Accuracy and onsets": strata,
    "Onsets along the text": onsets,
    "Scan": scan,
    "Lens": lens,
    "Attribution": attribution,
    "Continuation": continuation,
    "Decisions": decisions,
}
"""Sections that are there where the config has such a stage."""

Pictures = Mapping[str, Sequence[Picture]]


def render(results: Results) -> dict[str, bytes]:
    """Every file of the report, by its name relative to the run folder; the same input gives the same bytes.

    `report.html` stands alone; `report.md` links to `figures/<name>.png`, which has `<name>.svg` and its data
    `<name>.csv` beside it.
    """
    drawn = drawings(results)
    pictures = {section: _pictures(found) for section, found in drawn.items()}
    document = compose(results, pictures)
    files = {"report.html": html_page(document), "report.md": markdown_page(document)}
    for section, found in drawn.items():
        for drawing, picture in zip(found, pictures[section], strict=True):
            stem = f"figures/{drawing.name}"
            files |= {f"{stem}.png": drawing.png(), f"{stem}.svg": picture.svg, f"{stem}.csv": drawing.csv()}
    return files


def compose(results: Results, pictures: Pictures) -> Document:
    """What both pages say, in the order they say it."""
    conditions = listed(results)
    sections = (
        ("Figures", pictures.get("Figures") or [Paragraph("There is nothing to draw yet.")]),
        ("Conditions", tables.conditions(conditions)),
        ("Contrasts with the baseline", tables.contrasts(conditions)),
        *_study(results, pictures),
        ("Side by side", side_by_side(conditions)),
        ("How to read this", glossary(results)),
        ("More about each condition", tables.details(conditions)),
        ("Config", provenance.config(results)),
        ("Provenance", provenance.provenance(results)),
    )
    return Document(
        title=opening.title(results),
        subtitle=opening.subtitle(results),
        opening=opening.opening(results),
        sections=[Section(title, title.lower().replace(" ", "-"), blocks) for title, blocks in sections],
    )


def _study(results: Results, pictures: Pictures) -> list[tuple[str, list[Block]]]:
    """Sections of measurements that were made: what the numbers say, the figures, the tables."""
    found = (
        (title, _with_pictures(module.blocks(results), pictures.get(title, ()))) for title, module in STUDY.items()
    )
    return [(title, blocks) for title, blocks in found if blocks]


def _with_pictures(blocks: list[Block], pictures: Sequence[Picture]) -> list[Block]:
    """Figures after the paragraphs that a section begins with."""
    start = next((place for place, block in enumerate(blocks) if block.kind != "paragraph"), len(blocks))
    return [*blocks[:start], *pictures, *blocks[start:]]


def _pictures(drawings: Sequence[Drawing]) -> list[Picture]:
    """Of several figures of one kind the first says how to read them."""
    first: dict[str, str] = {}
    return [_picture(drawing, first.setdefault(drawing.caption, drawing.title)) for drawing in drawings]


def _picture(drawing: Drawing, told_at: str) -> Picture:
    caption = drawing.caption if told_at == drawing.title else f"Read it as “{told_at}”."
    text = " ".join(filter(None, (caption, drawing.note)))
    return Picture(drawing.name, drawing.title, text, drawing.alt, drawing.svg())
