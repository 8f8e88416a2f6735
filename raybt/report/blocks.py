"""What a report is made of, before it is HTML or Markdown. Both templates walk the same blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Paragraph:
    """A sentence or more; `names` in backticks become code."""

    text: str
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Warning:
    """What a reader must know before believing a number."""

    text: str
    kind: ClassVar[str] = "warning"


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """`detail` is the second, smaller line: an interval or a reason. Both may hold `names`."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """The first cell heads the row. `tone` sets baseline and collapsed rows apart."""

    cells: tuple[Cell, ...]
    tone: Literal["", "baseline", "collapsed"] = ""


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """A figure in its place: `name` is the file's stem in figures/, `svg` the drawing itself."""

    name: str
    title: str
    caption: str
    alt: str
    svg: bytes
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Code:
    text: str
    language: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Terms:
    """A glossary: (term, meaning) pairs."""

    entries: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "terms"


@dataclass(frozen=True)
class Piece:
    """A stretch of a completion that is marked the same way throughout. `text` is the model's own: escape it."""

    text: str
    shared: bool = False
    part: bool = False
    onset: bool = False
    omission: bool = False


@dataclass(frozen=True)
class Transcript:
    title: str
    verdict: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class SideBySide:
    """One (problem, sample) under baseline and under a condition. `question` is foreign text."""

    heading: str
    question: str
    facts: str
    transcripts: tuple[Transcript, ...]
    kind: ClassVar[str] = "side_by_side"


Block = Paragraph | Warning | Table | Picture | Code | Terms | SideBySide


@dataclass(frozen=True)
class Section:
    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    opening: Sequence[Block]
    sections: Sequence[Section]
