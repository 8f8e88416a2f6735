"""Two completions of one (problem, sample), cut into the stretches that are marked differently."""

from itertools import pairwise
from typing import Any

from raybt.report.blocks import Block, Paragraph, Piece, SideBySide, Transcript
from raybt.report.results import Results, TableRow, rows_of
from raybt.report.wording import code, is_missing, plain, text

LONGEST_SHARED = 600  # characters of common text shown whole; beyond that the reader would hunt for the difference
SHARED_HEAD, SHARED_TAIL = 200, 300

_LEAD = (
    "The same problem and sample with the same random draws, once under the baseline and once under the condition. "
    "Up to the parting token (▶) both are the same, and set in grey; from there on the intervention has changed "
    "what is written. Onsets are framed and labelled. What follows is what the model wrote, unedited but for long "
    "common beginnings."
)


def side_by_side(results: Results) -> list[Block]:
    if results.examples.empty:
        return [Paragraph("No pair of completions was kept for this run.")]
    return [Paragraph(_LEAD), *map(_pair, rows_of(results.examples))]


def _pair(row: TableRow) -> SideBySide:
    return SideBySide(
        heading=f"{code(row['condition'])}, problem {code(row['problem'])}, sample {row['sample']}",
        question=text(row["question"]),
        facts=_facts(row),
        transcripts=(_transcript(row, "baseline", "baseline"), _transcript(row, "treated", row["condition"])),
    )


def _facts(row: TableRow) -> str:
    part = row["part_token"]
    parting = (
        "they never part"
        if is_missing(part) or part < 0
        else f"they part at generated token {int(part)} (counted from 0)"
    )
    place = f"Stage {code(row['stage'])}, variant {code(row['variant'])}"
    return f"{place}; gold answer {plain(text(row['gold']))}; {parting}."


def _transcript(row: TableRow, side: str, title: str) -> Transcript:
    answer = row[f"{side}_answer"]
    verdict = plain(text(row[f"{side}_verdict"])) + ("" if is_missing(answer) else f" (answer {plain(answer)})")
    return Transcript(code(title), verdict, tuple(_shortened(_pieces(row, side))))


def _pieces(row: TableRow, side: str) -> list[Piece]:
    """Cuts at every mark's edge, but never inside an onset. Assumes spans are offsets into this side's text."""
    written = text(row[f"{side}_text"], "")
    part = _span(row[f"{side}_part_start"], row[f"{side}_part_end"], len(written))
    onsets = [_span(mark["start"], mark["end"], len(written)) for mark in _marks(row[f"{side}_onsets"])]
    wanted = {0, len(written), *part, *[edge for span in onsets for edge in span]}
    edges = sorted(edge for edge in wanted if not any(start < edge < end for start, end in onsets))
    return [
        Piece(
            written[start:end],
            shared=end <= part[0],
            part=max(start, part[0]) < min(end, part[1]),
            onset=any(onset_start <= start < onset_end for onset_start, onset_end in onsets),
        )
        for start, end in pairwise(edges)
    ]


def _span(start: Any, end: Any, length: int) -> tuple[int, int]:
    """Inside the text; a missing mark lies, empty, at its end."""
    if is_missing(start) or is_missing(end):
        return length, length
    return min(int(start), length), min(int(end), length)


def _marks(spans: Any) -> list[dict[str, Any]]:
    return [] if is_missing(spans) else list(spans)


def _shortened(pieces: list[Piece]) -> list[Piece]:
    return [short for piece in pieces for short in (_short(piece) if piece.shared and not piece.onset else [piece])]


def _short(piece: Piece) -> list[Piece]:
    left_out = len(piece.text) - SHARED_HEAD - SHARED_TAIL
    if len(piece.text) <= LONGEST_SHARED:
        return [piece]
    return [
        Piece(piece.text[:SHARED_HEAD], shared=True),
        Piece(f"[… {left_out:,} characters, the same in both …]", shared=True, omission=True),
        Piece(piece.text[-SHARED_TAIL:], shared=True),
    ]
