"""A small copy of a model's config: few narrow layers, and every change of regime within some tens of tokens."""

from copy import deepcopy
from itertools import pairwise
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

WINDOW, SWITCH = 8, 48
"""Tokens that a sliding window or a chunk shows, and after which rotary frequencies switch, in a small copy."""
VOCABULARY, WIDTH, WIDEST, EXPERTS, GROUPS = 512, 128, 1024, 8, 2
WIDTHS = (
    "intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "intermediate_size_mlp",
    "ffn_dim", "ffn_hidden_size", "n_inner", "expert_hidden_size",
)  # fmt: skip
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
WINDOWS = ("sliding_window", "attention_chunk_size")
VOCABULARIES = ("vocab_size", "vocab_size_per_layer_input")
BESIDE = 32
"""How far past the longest row Llama 4's temperature (`floor_scale`) sets in, in a copy; see `features.reach`."""


def small_copy(config: Any, narrow: bool = True) -> Any:
    """A config of a few layers, one at least of each kind; heads stay as wide as they are.

    Args:
        config: of the whole model; of one that also sees or hears only the language model is copied.
        narrow: also make the stream, MLPs, vocabulary and number of experts small.
    """
    text = config.get_text_config()
    small = deepcopy(text if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else config)
    text = small.get_text_config()
    if getattr(small, "quantization_config", None) is not None:
        del small.quantization_config
    _shorten(text)
    _shrink_regimes(text)
    _shrink_vocabulary(text)
    if narrow:
        _narrow(text)
    return small


def _shorten(text: Any) -> None:
    """Keep the first layer of each kind, by every list that has an entry for each layer."""
    depth = text.num_hidden_layers
    numbered = {name for name, value in vars(text).items() if _numbers_layers(value)}
    lists = {name: value for name, value in vars(text).items()
             if isinstance(value, list) and len(value) == depth and name not in numbered}  # fmt: skip
    kinds = [tuple(str(value[layer]) for value in lists.values()) for layer in range(depth)]
    kept = sorted({kinds.index(kind) for kind in kinds})
    kept = (kept + [layer for layer in range(depth) if layer not in kept])[: max(2, len(kept))]
    for name, value in lists.items():
        _set(text, name, [value[layer] for layer in sorted(kept)])
    for name in numbered:
        _set(text, name, [new for new, old in enumerate(sorted(kept)) if old in getattr(text, name)])
    _set(text, "num_hidden_layers", len(kept))
    for name, most in (("first_k_dense_replace", 1), ("num_nextn_predict_layers", 0), ("max_window_layers", len(kept))):
        if isinstance(getattr(text, name, None), int):
            _set(text, name, min(getattr(text, name), most))


def _numbers_layers(value: Any) -> bool:
    """Whether a list names layers by number (the experts' in Llama 4): whole numbers, each larger than the last."""
    whole = isinstance(value, list) and all(type(one) is int for one in value)
    return whole and all(before < after for before, after in pairwise(value))


def _shrink_regimes(text: Any) -> None:
    for name in WINDOWS:
        if getattr(text, name, None):
            _set(text, name, WINDOW)
    if getattr(text, "floor_scale", None):
        _set(text, "floor_scale", SWITCH + BESIDE)
    longest = getattr(text, "max_position_embeddings", None)
    for rope in rotaries(text):
        kind = rope.get("rope_type", rope.get("type"))
        if kind == "longrope":
            first = rope.get("original_max_position_embeddings") or text.original_max_position_embeddings
            _set(text, "max_position_embeddings", SWITCH * (longest or first) // first)
            rope["original_max_position_embeddings"] = SWITCH
            if getattr(text, "original_max_position_embeddings", None):
                _set(text, "original_max_position_embeddings", SWITCH)
        elif kind == "dynamic":
            _set(text, "max_position_embeddings", SWITCH)
            if "original_max_position_embeddings" in rope:
                rope["original_max_position_embeddings"] = SWITCH


def rotaries(text: Any) -> list[dict[str, Any]]:
    """The settings of its rotary embeddings: one, or one for each kind of layer."""
    settings = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    nested = [value for value in settings.values() if isinstance(value, dict)]
    return nested or [settings]


def _narrow(text: Any) -> None:
    heads, shared = text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    wide = getattr(text, "head_dim", None) or text.hidden_size // heads
    few, group = min(shared, GROUPS), heads // shared
    group = max(min(2, group), min(group, WIDEST // (few * wide)))
    _set(text, "num_attention_heads", few * group)
    if getattr(text, "num_key_value_heads", None):
        _set(text, "num_key_value_heads", few)
    _set(text, "hidden_size", few * group * wide)
    for name in WIDTHS:
        if isinstance(getattr(text, name, None), int):
            _set(text, name, min(getattr(text, name), WIDTH))
    _narrow_experts(text)


def _shrink_vocabulary(text: Any) -> None:
    for name in VOCABULARIES:
        if isinstance(getattr(text, name, None), int):
            _set(text, name, min(getattr(text, name), VOCABULARY))
    for name, token in (("pad_token_id", 0), ("bos_token_id", 1), ("eos_token_id", 2)):
        if getattr(text, name, None) is not None:
            _set(text, name, token)


def _narrow_experts(text: Any) -> None:
    groups = getattr(text, "n_group", None) or 1
    for name in EXPERT_COUNTS:
        if getattr(text, name, None):
            most = max(EXPERTS, 2 * groups)
            _set(text, name, min(getattr(text, name), most))
            for chosen in CHOSEN:
                if isinstance(getattr(text, chosen, None), int):
                    _set(text, chosen, min(getattr(text, chosen), most // 2))


def _set(config: Any, name: str, value: Any) -> None:
    """Under the name by which the config keeps it: GPT-2's hidden_size is n_embd."""
    setattr(config, config.attribute_map.get(name, name), value)
