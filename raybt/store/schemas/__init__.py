"""The Arrow schema of every data set in a run folder. `docs/run-folder.md` explains each column."""

import pyarrow as pa

RECEIPT = pa.list_(pa.struct([("site", pa.string()), ("steps", pa.int32())]))

PROMPTS = pa.schema([
    ("variant", pa.string()),
    ("problem", pa.string()),
    ("question", pa.string()),
    ("gold", pa.string()),
    ("text", pa.string()),
    ("token_ids", pa.list_(pa.int32())),
])  # fmt: skip

CONDITIONS = pa.schema([
    ("stage", pa.string()),
    ("condition", pa.string()),
    ("role", pa.string()),
    ("control_of", pa.string()),
    ("subset", pa.string()),
    ("operation", pa.string()),
    ("vectors", pa.string()),
    ("scale", pa.float64()),
    ("positions", pa.string()),
    ("sites", pa.list_(pa.string())),
    ("intervention", pa.string()),
])  # fmt: skip

PLAN = pa.schema([
    ("stage", pa.string()),
    ("condition", pa.string()),
    ("variant", pa.string()),
    ("problem", pa.string()),
    ("sample", pa.int32()),
    ("key", pa.string()),
])  # fmt: skip

VECTORS = pa.schema([
    ("name", pa.string()),
    ("site", pa.string()),
    ("kind", pa.string()),
    ("rows", pa.int32()),
    ("norm", pa.float64()),
    ("hash", pa.string()),
])  # fmt: skip

COMPLETIONS = pa.schema([
    ("key", pa.string()),
    ("token_ids", pa.list_(pa.int32())),
    ("finish_reason", pa.string()),
    ("receipt", RECEIPT),
    ("seconds", pa.float64()),
    ("replica", pa.string()),
    ("numerics", pa.string()),
])  # fmt: skip

FAILURES = pa.schema([
    ("key", pa.string()),
    ("error", pa.string()),
    ("replica", pa.string()),
])  # fmt: skip

EVENTS = pa.schema([
    ("key", pa.string()),
    ("tier", pa.string()),
    ("phrase", pa.string()),
    ("char", pa.int32()),
    ("token", pa.int32()),
    ("token_id", pa.int32()),
    ("is_onset", pa.bool_()),
])  # fmt: skip

GRADES = pa.schema([
    ("key", pa.string()),
    ("text", pa.string()),
    ("n_tokens", pa.int32()),
    ("finish_reason", pa.string()),
    ("onset_strict", pa.bool_()),
    ("onset_relaxed", pa.bool_()),
    ("onset_phrase", pa.string()),
    ("onset_char", pa.int32()),
    ("onset_token", pa.int32()),
    ("verdict", pa.string()),
    ("answer", pa.string()),
    ("answer_so_far", pa.string()),
    ("gold", pa.string()),
    ("chance", pa.float64()),
    ("repetition", pa.float64()),
    ("compression", pa.float64()),
    ("sentence_starts", pa.list_(pa.int32())),
])  # fmt: skip

_INTERVAL_STEMS = ("onset_rate", "relaxed_rate", "accuracy_all", "accuracy_answered")

CONDITION_TABLE = pa.schema([
    ("stage", pa.string()),
    ("condition", pa.string()),
    ("variant", pa.string()),
    ("role", pa.string()),
    ("control_of", pa.string()),
    ("subset", pa.string()),
    ("operation", pa.string()),
    ("vectors", pa.string()),
    ("scale", pa.float64()),
    ("positions", pa.string()),
    ("n_sites", pa.int32()),
    *[(name, pa.int64()) for name in (
        "planned", "done", "failed", "missing", "truncated", "unparseable", "correct", "wrong", "onsets", "problems",
    )],
    *[(f"{stem}{part}", pa.float64()) for stem in _INTERVAL_STEMS for part in (
        "", "_wilson_low", "_wilson_high", "_low", "_high",
    )],
    ("chance_accuracy", pa.float64()),
    ("answerable_rate", pa.float64()),
    ("truncated_rate", pa.float64()),
    ("mean_tokens", pa.float64()),
    ("repetition", pa.float64()),
    ("compression", pa.float64()),
    ("repetitive_rate", pa.float64()),
    ("collapsed", pa.bool_()),
    ("collapsed_because", pa.string()),
    ("finding", pa.string()),
    ("numerics", pa.string()),
])  # fmt: skip

CONTRAST_TABLE = pa.schema([
    ("stage", pa.string()),
    ("condition", pa.string()),
    ("variant", pa.string()),
    ("measure", pa.string()),
    ("baseline", pa.float64()),
    ("treated", pa.float64()),
    ("difference", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("p", pa.float64()),
    ("p_holm", pa.float64()),
    ("pairs", pa.int64()),
    ("pairs_lost", pa.int64()),
    ("problems", pa.int64()),
    ("mixed_numerics", pa.bool_()),
])  # fmt: skip

SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))

EXAMPLE_TABLE = pa.schema([
    ("stage", pa.string()),
    ("condition", pa.string()),
    ("variant", pa.string()),
    ("problem", pa.string()),
    ("sample", pa.int32()),
    ("question", pa.string()),
    ("gold", pa.string()),
    ("part_token", pa.int32()),
    *[(f"{side}_{name}", kind) for side in ("baseline", "treated") for name, kind in (
        ("text", pa.string()),
        ("part_start", pa.int32()),
        ("part_end", pa.int32()),
        ("onsets", SPANS),
        ("verdict", pa.string()),
        ("answer", pa.string()),
    )],
])  # fmt: skip

SUMMARIES = {"conditions": CONDITION_TABLE, "contrasts": CONTRAST_TABLE, "examples": EXAMPLE_TABLE}
"""The tables under tables/, which the report is drawn from."""
