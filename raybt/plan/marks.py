"""Marks in the keys of models whose numbers an earlier raybt got wrong: their old rows are run again, nobody else's.

Unlike NUMERICS, which voids every key of every run, a mark touches the models that it names. A mark stays for good.
"""

from typing import Any

from raybt.plan.model_facts import ModelFacts

Settings = dict[str, Any]


def marked(facts: ModelFacts, kind: str = "completion") -> str:
    """What stands for the model in the keys of rows of a kind: its fingerprint, and what has been mended since.

    Args:
        kind: `completion`, `continuation`, `lens` or `scan`.
    """
    settings = facts.settings
    found = [
        mark
        for mark, kinds, applies in MARKS
        if (not kinds or kind in kinds) and applies(settings, str(settings.get("model_type")))
    ]
    return "+".join([facts.fingerprint, *found])


def _unseen_window(settings: Settings, model_type: str) -> bool:
    """Their layers tell attention of the window by its mask alone, which raybt's kernel did not look at."""
    used = settings.get("use_sliding_window") if model_type == "qwen2_moe" else True
    return model_type in ("qwen2_moe", "phimoe", "doge") and bool(used and settings.get("sliding_window"))


def _chunks(settings: Settings, model_type: str) -> bool:
    return model_type.startswith("llama4") and bool(settings.get("attention_chunk_size"))


def _two_ropes(settings: Settings, model_type: str) -> bool:
    """LongRoPE, whose frequencies the longest row of a batch chose for all."""
    rope = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    return any("long_factor" in part for part in (rope, *rope.values()) if isinstance(part, dict))


def _soft_cap(settings: Settings, model_type: str) -> bool:
    """Which some versions of transformers leave out of the attention that raybt then asked for."""
    return settings.get("attn_logit_softcapping") is not None


MARKS = (
    ("window", (), _unseen_window),
    ("chunks", (), _chunks),
    ("longrope", (), _two_ropes),
    ("softcap", (), _soft_cap),
    ("probe", ("lens", "scan"), lambda settings, model_type: model_type in ("gpt_oss", "diffllama")),
    ("lens", ("lens",), lambda settings, model_type: model_type in ("olmo", "nemotron")),  # attribution
)
"""(mark, kinds of row that it touches, all where none is named; whether it touches a model)."""
