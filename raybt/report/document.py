"""From finished tables to the report's files, as named bytes."""

from raybt.report import opening, provenance, tables
from raybt.report.blocks import Document, Paragraph, Picture, Section
from raybt.report.figures import Drawing, drawings
from raybt.report.glossary import glossary
from raybt.report.pages import html_page, markdown_page
from raybt.report.results import Results
from raybt.report.side_by_side import side_by_side

__all__ = ["Results", "compose", "render"]


def render(results: Results) -> dict[str, bytes]:
    """Every file of the report, by its name relative to the run folder; the same input gives the same bytes.

    `report.html` stands alone; `report.md` links to `figures/<name>.png`, which has `<name>.svg` and its data
    `<name>.csv` beside it.
    """
    drawn = drawings(results)
    pictures = [_picture(drawing) for drawing in drawn]
    document = compose(results, pictures)
    files = {"report.html": html_page(document), "report.md": markdown_page(document)}
    for drawing, picture in zip(drawn, pictures, strict=True):
        stem = f"figures/{drawing.name}"
        files |= {f"{stem}.png": drawing.png(), f"{stem}.svg": picture.svg, f"{stem}.csv": drawing.csv()}
    return files


def compose(results: Results, pictures: list[Picture]) -> Document:
    """What both pages say, in the order they say it."""
    sections = (
        ("Figures", pictures or [Paragraph("There is nothing to draw yet.")]),
        ("Conditions", tables.conditions(results)),
        ("Contrasts with the baseline", tables.contrasts(results)),
        ("Side by side", side_by_side(results)),
        ("How to read this", glossary()),
        ("More about each condition", tables.details(results)),
        ("Config", provenance.config(results)),
        ("Provenance", provenance.provenance(results)),
    )
    return Document(
        title=opening.title(results),
        subtitle=opening.subtitle(results),
        opening=opening.opening(results),
        sections=[Section(title, title.lower().replace(" ", "-"), blocks) for title, blocks in sections],
    )


def _picture(drawing: Drawing) -> Picture:
    return Picture(drawing.name, drawing.title, drawing.caption, drawing.alt, drawing.svg())
