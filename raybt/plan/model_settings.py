"""What a model's config.json tells: its size, whether transformers can load it here, where its positions end."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

from raybt.config import Model
from raybt.errors import UserError
from raybt.plan import known

Settings = dict[str, Any]

ROUNDED = 16  # the engine attends to lengths that are multiples of this
_LANGUAGE_MODELS = ("ForCausalLM", "ForConditionalGeneration", "LMHead", "Decoder")  # parts of architectures' names
_AUTO = "AutoModelForCausalLM"
PACKAGES = {  # quant_method -> ((module, what pip calls it), ...) that transformers imports to decode it
    "aqlm": (("aqlm", "aqlm[gpu,cpu]"),),
    "auto-round": (("auto_round", "auto-round"),),
    "awq": (("gptqmodel", "gptqmodel"),),
    "bitsandbytes": (("bitsandbytes", "bitsandbytes"),),
    "compressed-tensors": (("compressed_tensors", "compressed-tensors"),),
    "eetq": (("kernels", "kernels"),),
    "fbgemm_fp8": (("fbgemm_gpu", "fbgemm-gpu"),),
    "fouroversix": (("fouroversix", "fouroversix"),),
    "fp_quant": (("fp_quant", "fp_quant"),),
    "gptq": (("optimum", "optimum"), ("gptqmodel", "gptqmodel")),
    "higgs": (("flute", "flute-kernel"), ("fast_hadamard_transform", "fast_hadamard_transform")),
    "hqq": (("hqq", "hqq"),),
    "quanto": (("optimum.quanto", "optimum-quanto"),),
    "quark": (("quark", "amd-quark"),),
    "sinq": (("sinq", "sinq"),),
    "spqr": (("spqr_quant", "spqr_quant[gpu]"),),
    "torchao": (("torchao", "torchao"),),
    "vptq": (("vptq", "vptq"),),
}
"""Methods that are not here, mxfp4 and fp8 for instance, need none: transformers unpacks what it has no kernel for."""


def read_settings(path: Path) -> Settings:
    """config.json, or generation_config.json, as it is.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        raise UserError(f"a model's {path.name} must be JSON", f"{path}: {error}", "mend or fetch it again") from None
    return settings


def language_settings(whole: Settings) -> Settings:
    """The settings of the language model: models that also see or hear keep them in a section of their own."""
    nested = whole.get("text_config")
    return {**whole, **nested} if isinstance(nested, dict) else whole


def check_settings(whole: Settings, model: Model) -> None:
    """A model must be a decoder that the installed transformers can load.

    Raises:
        UserError: it is not.
    """
    if whole.get("is_encoder_decoder"):
        raise _no_decoder(f"{model.name}, an encoder-decoder")
    code = (whole.get("auto_map") or {}).get(_AUTO)
    if not (code and model.trust_remote_code):
        _check_type(whole, model.name, code)
        _check_architecture(whole, model.name)
    _check_quantisation(whole, model.name)


def _check_type(whole: Settings, name: str, code: str | None) -> None:
    """transformers must have a decoder of the config's model_type, whether the model brings code or not."""
    kind = whole.get("model_type")
    if not isinstance(kind, str):
        fix = "add it, or fetch the file again"
        raise UserError("a model's config.json names its model_type", f"none for {name}", fix)
    if kind in known.decoders() or not known.decoders():
        return
    if code:
        raise UserError(
            "a model with code of its own needs model.trust_remote_code",
            f"{name} with {code}, and transformers {known.VERSION} has no decoder of model_type {kind} itself",
            "read that code, then set model.trust_remote_code: true; or install a newer transformers",
        )
    if kind not in known.model_types():
        raise UserError(
            f"a model must be of a model_type that transformers {known.VERSION} knows",
            f"{name} of model_type {kind}",
            "install a newer transformers (pip install -U transformers)",
        )
    raise _no_decoder(f"{name} of model_type {kind}", whole.get("text_config"))


def _check_architecture(whole: Settings, name: str) -> None:
    names = whole.get("architectures") or []
    if names and not any(part in one for one in names for part in _LANGUAGE_MODELS):
        raise _no_decoder(f"{name} of architecture {names[0]}")


def _no_decoder(value: str, nested: Settings | None = None) -> UserError:
    inside = nested.get("model_type") if isinstance(nested, dict) else None
    alone = f", such as its language model alone ({inside})" if inside in known.decoders() else ""
    return UserError(
        "a model must be a decoder that predicts the next token", value, f"use a decoder-only model{alone}"
    )


def _check_quantisation(whole: Settings, name: str) -> None:
    asked = whole.get("quantization_config") or language_settings(whole).get("quantization_config")
    if not isinstance(asked, dict):
        return
    method = quantisation(asked)
    if known.quantisations() and method not in known.quantisations() | {"bitsandbytes"}:
        raise UserError(
            f"a quantised model must be of a method that transformers {known.VERSION} decodes",
            f"{name} with {f'quant_method {method}' if method else 'no quant_method, as MLX has it'}",
            "use the model as it was before quantisation, or another quantised one",
        )
    missing = [pip for module, pip in PACKAGES.get(method or "", ()) if not _importable(module)]
    if missing:
        raise UserError(
            f"a model quantised with {method} needs {' and '.join(missing)}",
            f"{name}, and here {'neither is' if missing[1:] else 'it is not'} installed",
            f"pip install {' '.join(map(quote, missing))}, here and wherever replicas run",
        )


def quantisation(asked: Settings) -> str | None:
    """The method that a quantization_config asks for, as transformers reads it."""
    if asked.get("load_in_4bit") or asked.get("load_in_8bit"):
        return "bitsandbytes"
    return asked.get("quant_method")


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def size(settings: Settings, name: str) -> tuple[int, int, int]:
    """(layers, heads, context length).

    Raises:
        UserError: neither config.json nor the model_type's defaults give them.
    """
    return (
        _number(settings, ("num_hidden_layers", "n_layer"), name),
        _number(settings, ("num_attention_heads", "n_head"), name),
        _number(settings, ("max_position_embeddings", "n_positions"), name),
    )


def _number(settings: Settings, keys: tuple[str, ...], name: str) -> int:
    found = [settings[key] for key in keys if key in settings] or [_default(settings, keys[0])]
    for value in found:
        if isinstance(value, int):
            return value
    raise UserError(
        f"a model's config.json gives {' or '.join(keys)}", f"neither for {name}", "use a decoder-only model"
    )


def _default(settings: Settings, key: str) -> Any:
    """What transformers makes of a setting that config.json calls by another name, or leaves out."""
    defaults, renamed = known.config_class(str(settings.get("model_type")))
    names = (key, renamed.get(key, key))
    return next((there[name] for there in (settings, defaults) for name in names if name in there), None)


def vocabulary(settings: Settings) -> int | None:
    """Rows of the embedding table, None where that cannot be told."""
    value = settings.get("vocab_size") or _default(settings, "vocab_size")
    return value if isinstance(value, int) else None


def switch_of(settings: Settings) -> int | None:
    """The most tokens of a row before its numbers depend on its neighbours' lengths; None where they never do."""
    return min(filter(None, (rope_switch(settings), temperature_switch(settings))), default=None)


def temperature_switch(settings: Settings) -> int | None:
    """Llama 4 turns attention up at every `floor_scale` tokens, and counts them by the cache, the same for all rows."""
    if settings.get("attn_temperature_tuning") and isinstance(settings.get("floor_scale"), int):
        return settings["floor_scale"] - ROUNDED - 1
    return None


def rope_switch(settings: Settings) -> int | None:
    """The most positions of a batch before the rotary frequencies of all its rows change; None where they never do.

    What transformers' `dynamic_rope_update` does at every step, from the largest position in the batch: so a row's
    tokens would depend on its neighbours, and its cached keys on frequencies that are no longer in use.
    """
    rope = settings.get("rope_scaling") or settings.get("rope_parameters")
    if not isinstance(rope, dict):
        return None
    nested = [part for part in rope.values() if isinstance(part, dict)]  # one for each kind of layer
    return min((at for part in nested or [rope] for at in _switch(part, settings, bool(nested))), default=None)


def _switch(rope: Settings, settings: Settings, nested: bool) -> Iterator[int]:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    longest = _number(settings, ("max_position_embeddings", "n_positions"), "its rotary frequencies")
    if "dynamic" in kind:
        yield longest
    elif "long_factor" in rope and not _same(rope):  # longrope, and what it was called before: su, and yarn in Phi-3
        # Phi-3's place for it is outside, Phi-3.5-MoE's inside; where they differ, the lower is safe
        outside = None if nested else _default(settings, "original_max_position_embeddings")
        yield min(filter(None, (outside, rope.get("original_max_position_embeddings"))), default=longest)


def _same(rope: Settings) -> bool:
    """Whether both sets of frequencies are one."""
    return all(rope.get(f"long_{what}") == rope.get(f"short_{what}") for what in ("factor", "mscale"))
