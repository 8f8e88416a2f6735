"""The Arrow schemas of what a study's stages measure and decide. `docs/run-folder.md` explains each column."""

import pyarrow as pa


def _texts(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.string()) for name in names]


def _counts(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.int64()) for name in names]


def _numbers(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.float64()) for name in names]


def _intervals(*stems: str) -> list[tuple[str, pa.DataType]]:
    """An estimate and its clustered 95% interval: `stem`, `stem_low`, `stem_high`."""
    return [(f"{stem}{part}", pa.float64()) for stem in stems for part in ("", "_low", "_high")]


DECISIONS = pa.schema(_texts("name", "value", "reason", "made_from"))
"""What was decided between waves; `value` is JSON, `made_from` a hash of the tables it was decided from."""

TEXTS = pa.schema([*_texts("source"), ("prompt_tokens", pa.int32()), ("token_ids", pa.list_(pa.int32()))])
"""Prompt and completion of each baseline completion that measurements read, by the completion's key."""

MEASUREMENTS = pa.schema([
    *_texts("stage", "kind", "event", "role", "of", "condition", "intervention", "variant", "problem"),
    ("sample", pa.int32()),
    ("draw", pa.int32()),
    *_texts("source"),
    ("token", pa.int32()),
    ("target", pa.int32()),
    *_texts("key"),
])  # fmt: skip
"""The plan of lens, scan, step and continuation: one row a measurement, many-to-one to keys."""

_MADE_WITH = [("seconds", pa.float64()), *_texts("replica", "numerics")]

LENSES = pa.schema([
    *_texts("key"),
    ("places", pa.list_(pa.string())),
    ("logit", pa.list_(pa.float64())),
    ("log_probability", pa.list_(pa.float64())),
    ("rank", pa.list_(pa.int32())),
    ("components", pa.list_(pa.string())),
    ("attribution", pa.list_(pa.float64())),
    *_MADE_WITH,
])  # fmt: skip

EFFECT = pa.struct([
    ("intervention", pa.string()),
    ("target_change", pa.float64()),
    ("trigger_mass", pa.float64()),
    ("kl", pa.float64()),
    ("kl_trigger", pa.float64()),
    ("agrees", pa.bool_()),
    ("words", pa.list_(pa.float64())),
])  # fmt: skip

SCANS = pa.schema([
    *_texts("key"),
    *_numbers("target_log_probability", "trigger_mass", "floor_target", "floor_mass", "floor_kl"),
    ("words", pa.list_(pa.float64())),
    ("effects", pa.list_(EFFECT)),
    *_MADE_WITH,
])  # fmt: skip
"""One row an event: the untouched next token, the noise floor, and what each intervention at that position changes."""

LENS_TABLE = pa.schema([
    *_texts("stage", "role", "place", "component"),
    ("layer", pa.int32()),
    *_counts("planned", "done", "failed", "problems"),
    *_intervals("logit", "log_probability"),
    *_numbers("rank"),
])  # fmt: skip

ATTRIBUTION_TABLE = pa.schema([
    *_texts("stage", "role", "component", "kind"),
    ("layer", pa.int32()),
    *_counts("done", "problems"),
    *_intervals("attribution"),
])  # fmt: skip

SCAN_TABLE = pa.schema([
    *_texts("stage", "site", "kind"),
    ("layer", pa.int32()),
    ("head", pa.int32()),
    *_texts("operation"),
    *_counts("planned", "done", "failed", "controls", "problems"),
    *_intervals("target_change", "trigger_change"),
    *_numbers("p", "p_holm", "kl", "kl_trigger"),
    *_intervals("specific", "control_change"),
    *_numbers("control_kl", "control_agreement", "floor"),
    *_texts("verdict"),
])  # fmt: skip

STEP_TABLE = pa.schema([
    *_texts("stage", "condition", "intervention"),
    *_counts("planned", "done", "failed", "problems"),
    *_numbers("target_probability_baseline", "target_probability", "trigger_mass_baseline", "trigger_mass"),
    *_intervals("target_change", "trigger_change"),
    *_numbers("p", "p_holm", "kl", "floor"),
])  # fmt: skip

WORD_TABLE = pa.schema([
    *_texts("stage", "condition", "word"),
    *_counts("done", "problems"),
    *_numbers("mass_baseline", "mass"),
    *_intervals("change"),
])  # fmt: skip

CONTINUATION_TABLE = pa.schema([
    *_texts("stage", "condition"),
    *_counts("events", "planned", "done", "failed", "problems"),
    *_intervals("same_token", "at_once", "backtracks", "difference"),
    *_numbers("p", "p_holm"),
])  # fmt: skip

CONTROL_TABLE = pa.schema([
    *_texts("stage", "condition", "variant", "measure", "against"),
    *_numbers("effect"),
    *_counts("controls", "as_extreme"),
    *_numbers("p", "p_floor", "mean", "lowest", "highest", "overlap"),
])  # fmt: skip

STRATA_TABLE = pa.schema([
    *_texts("stage", "condition", "variant", "stratum", "basis"),
    *_counts("done", "problems"),
    *_intervals("accuracy"),
])  # fmt: skip

SURVIVAL_TABLE = pa.schema([
    *_texts("stage", "condition", "variant"),
    *_counts("token", "at_risk", "onsets"),
    *_intervals("survival"),
])  # fmt: skip

PLACEMENT_TABLE = pa.schema([
    *_texts("stage", "condition", "variant"),
    *_numbers("start", "end"),
    *_counts("onsets", "of"),
    *_intervals("share"),
])  # fmt: skip

PHRASE_TABLE = pa.schema([
    *_texts("stage", "condition", "variant", "tier", "phrase"),
    *_counts("done", "completions"),
    *_intervals("rate", "difference"),
])  # fmt: skip

VARIANT_TABLE = pa.schema([
    *_texts("variant"),
    *_counts("planned", "done", "failed", "problems"),
    *_intervals("onset_rate", "accuracy_all"),
    *_numbers("band_low", "band_high"),
    *_texts("reference"),
    *_intervals("difference"),
    *_numbers("p", "p_holm"),
])  # fmt: skip

SEARCH_TABLE = pa.schema([
    *_texts("stage", "phase"),
    ("rung", pa.int32()),
    *_texts("condition", "subset"),
    *_numbers("scale"),
    ("n_sites", pa.int32()),
    *_counts("problems", "pairs", "pairs_lost"),
    *_numbers("onset_rate_baseline", "onset_rate"),
    *_intervals("onset_difference", "accuracy_difference"),
    *_numbers("reduction", "accuracy_baseline", "accuracy"),
    ("collapsed", pa.bool_()),
    ("within", pa.bool_()),
    ("on_front", pa.bool_()),
    *_texts("verdict"),
])  # fmt: skip

STUDY_TABLES = {
    "lens": LENS_TABLE,
    "attribution": ATTRIBUTION_TABLE,
    "scan": SCAN_TABLE,
    "steps": STEP_TABLE,
    "words": WORD_TABLE,
    "continuations": CONTINUATION_TABLE,
    "controls": CONTROL_TABLE,
    "strata": STRATA_TABLE,
    "survival": SURVIVAL_TABLE,
    "placement": PLACEMENT_TABLE,
    "phrases": PHRASE_TABLE,
    "variants": VARIANT_TABLE,
    "search": SEARCH_TABLE,
}
"""Tables under tables/ beside the summaries; one without rows belongs to a stage that the config does not have."""
