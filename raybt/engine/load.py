"""A model from a folder or the hub, ready to decode, its wiring proved."""

import atexit
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.architecture import Proof, lacking, prove_architecture
from raybt.engine.kernels import by_triton
from raybt.engine.kernels.cpu_attend import kernel
from raybt.engine.packed import packs_of
from raybt.engine.prefill import MOST, STRETCH, pairs_of
from raybt.engine.sampling import kernel_for
from raybt.engine.wiring import prove_wiring, with_fusion
from raybt.errors import UserError, first_line


def pick_device(device: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("model.device cuda needs a GPU that torch can see", "none", "set model.device to cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def load_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    attention: str = "sdpa",
    trust_remote_code: bool = False,
    device_map: str | dict[str, Any] | None = None,
    proof: Proof | None = None,
    told: Callable[[str], None] = lambda phase: None,
) -> Anatomy:
    """Load a causal language model, find its sites, and prove that each is wired to the logits.

    Args:
        device_map: accelerate's placement of a model that one device does not hold: `auto`, or module -> device; what
            goes to `disk` is kept in a temporary folder for as long as the process lives.
        proof: of its architecture, as `architecture_of` gave it; None proves it here.
        told: called with `proving N sites` once the model is loaded.

    Raises:
        UserError: the model can't be loaded, its architecture is unknown or not supported, its weights are no numbers,
            or a site changes nothing.
    """
    transformers.utils.logging.disable_progress_bar()
    config = read_config(path, revision, trust_remote_code)
    proof = proof or _proved(config, dtype, pick_device(device), attention, trust_remote_code)
    given = attention_for(config, attention)
    with _loading(path):
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            dtype=getattr(torch, dtype),
            attn_implementation=given,
            trust_remote_code=trust_remote_code,
            **placement(device_map),
        )
    model = model if device_map else model.to(pick_device(device))
    anatomy = dissect(model.eval().requires_grad_(False))
    notes = (
        ()
        if given == attention
        else (f"{proof.model_type} needs {given} attention, and gets it in the place of {attention}",)
    )
    anatomy = replace(anatomy, faults=proof.faults, texts=proof.texts, notes=notes)
    anatomy.demand("decode")
    _check_finite(model)
    anatomy = with_fusion(anatomy)
    told(f"proving {len(anatomy.sites):,} sites")
    prove_wiring(anatomy)
    return anatomy


def architecture_of(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    attention: str = "sdpa",
    trust_remote_code: bool = False,
) -> Proof:
    """What raybt does right with a model, proved from its config alone, before its weights are read.

    Raises:
        UserError: the config can't be read, or no small copy of the model made.
    """
    config = read_config(path, revision, trust_remote_code)
    return _proved(config, dtype, pick_device(device), attention, trust_remote_code)


PROVED: dict[tuple, Proof] = {}  # by config and what computes, so that one process proves an architecture once


def _proved(config: Any, dtype: str, device: str, attention: str, trust_remote_code: bool) -> Proof:
    key = (config.to_json_string(use_diff=False), dtype, device, attention)
    if key not in PROVED:
        made = attention_for(config, attention)
        PROVED[key] = prove_architecture(config, getattr(torch, dtype), device, made, trust_remote_code)
    return PROVED[key]


def read_config(path: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A model's config, as transformers reads it.

    Raises:
        UserError: it can't.
    """
    with _loading(path):
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)


@contextmanager
def _loading(path: str) -> Iterator[None]:
    """What transformers raises of a model that it cannot load, as one line."""
    try:
        yield
    except ImportError as error:
        raise lacking(path, error) from error
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise UserError(
            "the model must load with transformers",
            f"{path} ({first_line(error, 200)})",
            "check model.name and revision",
        ) from error


def _check_finite(model: Any) -> None:
    bad = [name for name, p in model.named_parameters() if p.is_floating_point() and not _finite(p)]
    if bad:
        raise UserError(
            "a model's weights must be finite numbers",
            f"NaN or infinity in {', '.join(bad[:3])}" + (f" and {len(bad) - 3} more" if len(bad) > 3 else ""),
            "fetch or convert them again; a model trained in bfloat16 may not fit into float16",
        )


def _finite(parameter: Any) -> bool:
    """One pass without a copy: a sum of halves may overflow, the extremes of numbers do not."""
    if parameter.device.type == "meta" or parameter.dtype.itemsize < 2 or not parameter.numel():
        return True
    return bool(torch.isfinite(torch.stack(parameter.aminmax())).all())


def attention_for(config: Any, asked: str) -> str:
    """The attention that the model gets: `eager` where torch's own would leave out what the model's does.

    Soft caps (Gemma 2) and sinks (GPT-OSS) are no part of `sdpa`; some versions of transformers refuse these, and some
    leave them out without a word.
    """
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        return "eager"
    known = [MODEL_FOR_CAUSAL_LM_MAPPING.get(type(one), None) for one in (config, config.get_text_config())]
    return "eager" if any(getattr(one, "_supports_sdpa", True) is False for one in known) else asked


def placement(device_map: str | dict[str, Any] | None) -> dict[str, Any]:
    """What `from_pretrained` is told of a model on several devices."""
    if device_map is None:
        return {}
    folder = tempfile.TemporaryDirectory(prefix="raybt-offload-")
    atexit.register(folder.cleanup)
    return {"device_map": device_map, "offload_folder": folder.name}


def numerics_class(anatomy: Anatomy, slots: int) -> str:
    """What decides the last bits: device, type, attention, products, draws, slots, library versions."""
    device = torch.cuda.get_device_name() if anatomy.device.type == "cuda" else f"cpu/{platform.machine()}"
    dtype = str(anatomy.model.dtype).removeprefix("torch.")
    versions = (f"torch={torch.__version__}", f"transformers={transformers.__version__}")
    products = "linear=packed" if packs_of(anatomy.model) else "linear=torch"
    draws = "draws=kernel" if kernel_for(anatomy.device) else "draws=torch"
    parts = [device, dtype, attention_of(anatomy), products, draws, f"slots={slots}", *versions]
    if by_triton(anatomy.device):
        parts += [f"blocks={anatomy.fusion}", f"prefill={MOST}x{STRETCH}"]
    return "|".join(parts)


def attention_of(anatomy: Anatomy) -> str:
    """transformers' name for it, and the kernel that takes its place in the decode step on a CPU."""
    stock = anatomy.model.config._attn_implementation
    config = anatomy.model.config.get_text_config()
    plain = stock == "sdpa" and getattr(config, "attn_logit_softcapping", None) is None
    if not plain or anatomy.device.type != "cpu" or anatomy.model.dtype != torch.float32:
        return stock
    keys, values = pairs_of(anatomy, (0,))[0]  # [kv heads, 1, dim]
    if keys.shape != values.shape:
        return stock
    made = kernel(keys.shape[-1], config.num_attention_heads // keys.shape[0])
    return f"{stock}+c/{made.compiler}" if made else stock
