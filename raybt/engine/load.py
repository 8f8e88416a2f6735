"""A model from a folder or the hub, ready to decode, its wiring proved."""

import atexit
import platform
import tempfile
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.cache import pairs_of
from raybt.engine.kernels.cpu_attend import kernel
from raybt.engine.packed import packs_of
from raybt.engine.sampling import fused
from raybt.engine.wiring import prove_wiring
from raybt.errors import UserError


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
) -> Anatomy:
    """Load a causal language model, find its sites, and prove that each is wired to the logits.

    Args:
        device_map: accelerate's placement of a model that one device does not hold: `auto`, or module -> device; what
            goes to `disk` is kept in a temporary folder for as long as the process lives.

    Raises:
        UserError: the model can't be loaded, its architecture is unknown, or a site changes nothing.
    """
    transformers.utils.logging.disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            **placement(device_map),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            "the model must load with transformers", f"{path} ({_first_line(error)})", "check model.name and revision"
        ) from error
    model = model if device_map else model.to(pick_device(device))
    anatomy = dissect(model.eval().requires_grad_(False))
    prove_wiring(anatomy)
    return anatomy


def placement(device_map: str | dict[str, Any] | None) -> dict[str, Any]:
    """What `from_pretrained` is told of a model on several devices."""
    if device_map is None:
        return {}
    folder = tempfile.TemporaryDirectory(prefix="raybt-offload-")
    atexit.register(folder.cleanup)
    return {"device_map": device_map, "offload_folder": folder.name}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def numerics_class(anatomy: Anatomy, slots: int) -> str:
    """What decides the last bits: device, type, attention, products, draws, slots, library versions."""
    device = torch.cuda.get_device_name() if anatomy.device.type == "cuda" else f"cpu/{platform.machine()}"
    dtype = str(anatomy.model.dtype).removeprefix("torch.")
    versions = (f"torch={torch.__version__}", f"transformers={transformers.__version__}")
    products = "linear=packed" if packs_of(anatomy.model) else "linear=torch"
    draws = "draws=kernel" if fused(anatomy.device) else "draws=torch"
    return "|".join([device, dtype, attention_of(anatomy), products, draws, f"slots={slots}", *versions])


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
