"""Completions of one problem and sample under baseline and under a condition, side by side, worth a reader's time."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import pyarrow as pa

from raybt.config import BASELINE, Triggers
from raybt.measure.onset import find_onsets
from raybt.measure.tokens import TokenText, decode
from raybt.store.schemas import EXAMPLE_TABLE

IDENTICAL = -1  # the two completions never part


def examples(
    rows: pd.DataFrame,
    tokens: Mapping[str, Sequence[int]],
    tokenizer,
    triggers: Triggers,
    per_condition: int = 1,
) -> pa.Table:
    """The pairs most worth reading: only one side has an onset; they differ; they share the longest beginning.

    Ties go to the lower problem and sample, so the choice is the same every time. Conditions without a pair that is
    done on both sides are left out.

    Args:
        rows: as for `tables.summarise`, of one stage and variant, with `question`.
        tokens: row key -> generated token ids, of every done row.

    Returns:
        `EXAMPLE_TABLE`. `part_token` is the first token index at which the two differ (-1: identical); where one side
        ended before it, that side's span is empty and lies at the end of its text.
    """
    done = rows.query("verdict.notna()")
    parts = {name: part.to_dict("records") for name, part in done.groupby("condition", sort=False)}
    baseline = {(row["problem"], row["sample"]): row for row in parts.pop(BASELINE, [])}
    lines = []
    for records in parts.values():
        pairs = [(baseline[at], row) for row in records if (at := (row["problem"], row["sample"])) in baseline]
        ranked = sorted(pairs, key=lambda pair: _rank(*pair, tokens))
        lines += [_line(base, treated, tokens, tokenizer, triggers) for base, treated in ranked[:per_condition]]
    return pa.Table.from_pylist(lines, EXAMPLE_TABLE)


def _rank(base: dict, treated: dict, tokens: Mapping[str, Sequence[int]]) -> tuple:
    """Sorts the best pair first."""
    part = _part_token(tokens[base["key"]], tokens[treated["key"]])
    same_onset = bool(base["onset_strict"]) == bool(treated["onset_strict"])
    return same_onset, part == IDENTICAL, -part, str(base["problem"]), base["sample"]


def _part_token(left: Sequence[int], right: Sequence[int]) -> int:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return IDENTICAL if len(left) == len(right) else min(len(left), len(right))


def _line(base: dict, treated: dict, tokens: Mapping[str, Sequence[int]], tokenizer, triggers: Triggers) -> dict:
    part = _part_token(tokens[base["key"]], tokens[treated["key"]])
    line = {name: treated[name] for name in ("stage", "condition", "variant", "problem", "sample", "question", "gold")}
    for side, row in (("baseline", base), ("treated", treated)):
        text = decode(tokenizer, tokens[row["key"]])
        line |= {f"{side}_{name}": value for name, value in _side(row, text, part, triggers).items()}
    return line | {"part_token": part}


def _side(row: dict, text: TokenText, part: int, triggers: Triggers) -> dict:
    start, end = _part_span(text, part)
    return {
        "text": text.text,
        "part_start": start,
        "part_end": end,
        "onsets": list(_onset_spans(text, triggers)),
        "verdict": row["verdict"],
        "answer": None if pd.isna(row["answer"]) else row["answer"],
    }


def _part_span(text: TokenText, part: int) -> tuple[int, int]:
    """Characters of the parting token; empty at the end of the text where there is none."""
    if part == IDENTICAL or part >= len(text.starts) - 1:
        return len(text.text), len(text.text)
    return text.char_span(part)


def _onset_spans(text: TokenText, triggers: Triggers) -> Iterator[dict]:
    """Matches of the tier that the onset is in, none overlapping another."""
    onsets = find_onsets(text, triggers)
    tier, reached = next((onset.tier for onset in onsets if onset.is_onset), None), 0
    for onset in onsets:
        if onset.tier == tier and onset.char >= reached:
            yield {"start": onset.char, "end": onset.end}
            reached = onset.end
