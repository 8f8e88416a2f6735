"""A document as HTML and as Markdown. Everything is foreign text here: both pages escape it on the way in."""

import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raybt.report.blocks import Document, Piece

_CODE = re.compile(r"`([^`]*)`")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
_LINE_START = re.compile(r"(\n\s*)(?:([-+=])|(\d+)([.)]))")


def html_page(document: Document) -> bytes:
    return _environment("html").get_template("report.html.jinja").render(document=document).lstrip().encode()


def markdown_page(document: Document) -> bytes:
    return _environment("md").get_template("report.md.jinja").render(document=document).strip().encode() + b"\n"


def _html_names(text: str) -> Markup:
    """Escapes first, then sets what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", escape(text)))


def _data_uri(svg: bytes) -> str:
    """As an image of its own, so that ids of two drawings in one page cannot meet."""
    return f"data:image/svg+xml;base64,{b64encode(svg).decode()}"


def _markdown_escaped(text: str) -> str:
    return _escaped_inside(f"\n{text}")[1:]


def _markdown_names(text: str) -> str:
    return _outside_code(f"\n{text}", _escaped_inside)[1:]


def _escaped_inside(text: str) -> str:
    """Of a piece of text, which stands at a line's start only after a newline of its own."""
    return _LINE_START.sub(_line_start, _MARKDOWN.sub(r"\\\1", text))


def _line_start(found: re.Match[str]) -> str:
    """What would begin a list or a heading there; a backslash before a digit would be shown."""
    space, sign, number, stop = found.groups("")
    return f"{space}\\{sign}" if sign else f"{space}{number}\\{stop}"


def _markdown_cell(text: str) -> str:
    """One line; a bar ends a cell even inside code."""
    pieces = _outside_code(text.replace("\n", " "), lambda piece: _MARKDOWN.sub(r"\\\1", piece))
    return re.sub(r"(?<!\\)\|", r"\\|", pieces)


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Odd pieces of the split are code and stay as they are."""
    return "".join(f"`{piece}`" if place % 2 else change(piece) for place, piece in enumerate(_CODE.split(text)))


def _fenced(text: str, language: str = "text") -> str:
    """A fence longer than any inside, so that nothing in the text can close it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _marked(pieces: tuple[Piece, ...]) -> str:
    """▶ before the parting token, once even where an onset begins inside it."""
    before = (None, *pieces)
    return "".join(
        ("▶" if piece.part and not (last and last.part) else "") + (f"⟦{piece.text}⟧" if piece.onset else piece.text)
        for last, piece in zip(before, pieces, strict=False)
    )


_HTML_FILTERS = {"names": _html_names, "data_uri": _data_uri}
_MARKDOWN_FILTERS = {
    "names": _markdown_names,
    "escaped": _markdown_escaped,
    "cell": _markdown_cell,
    "fenced": _fenced,
    "marked": _marked,
}


@cache
def _environment(page: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("raybt.report", "."),
        autoescape=page == "html",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= _HTML_FILTERS if page == "html" else _MARKDOWN_FILTERS
    return environment
