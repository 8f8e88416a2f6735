"""What a model does that plain attention, plain rotary embeddings and a plain head do not, by name."""

from typing import Any

from raybt.engine.cache import GRAIN
from raybt.engine.shrink import rotaries


def features(model: Any) -> tuple[str, ...]:
    """The names of what may be the reason where a proof of its architecture fails."""
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    parts = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    there = {
        "attention sinks": "sinks" in parts,
        "differential attention": "lambda_q1" in parts,
        "latent attention": getattr(text, "kv_lora_rank", None) is not None,
        "chunked attention": any("chunked" in kind for kind in kinds),
        "sliding windows": bool(getattr(text, "sliding_window", None)),
        "layers without attention": bool(kinds - {"full_attention", "sliding_attention", "chunked_attention"}),
        "a soft cap": any(getattr(text, f"{what}_logit_softcapping", None) for what in ("attn", "final")),
        "a logit scale": any(getattr(text, name, None) not in (None, 1) for name in ("logit_scale", "logits_scaling")),
        "rotary frequencies that switch": any(
            str(rope.get("rope_type", rope.get("type"))) in ("longrope", "dynamic") for rope in rotaries(text)
        ),
    }
    return tuple(name for name, found in there.items() if found)


def reach(config: Any) -> int | None:
    """The most tokens of a row whose numbers do not depend on how long its neighbours are; None where any may be had.

    Some models choose rotary frequencies for all rows of a batch by its largest position (LongRoPE and dynamic NTK), or
    count positions by the cache's length (Llama 4's temperature), which is rounded up here.
    """
    text = config.get_text_config()
    ends = []
    for rope in rotaries(text):
        kind = rope.get("rope_type", rope.get("type"))
        if kind == "longrope" and any(
            rope.get(f"long_{what}") != rope.get(f"short_{what}") for what in ("factor", "mscale")
        ):
            outside = getattr(text, "original_max_position_embeddings", None)
            inside = rope.get("original_max_position_embeddings")
            ends.append(min(filter(None, (inside, outside)), default=text.max_position_embeddings))
        elif kind == "dynamic":
            ends.append(text.max_position_embeddings)
    if getattr(text, "attn_temperature_tuning", None) and getattr(text, "floor_scale", None):
        ends.append(text.floor_scale - GRAIN - 1)
    return min(ends, default=None)
