"""A model from a folder or the hub, ready to decode, its wiring proved."""

import platform
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.cache import GRAIN
from raybt.engine.decode import Decoder
from raybt.engine.request import Request, Sampling
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
) -> Anatomy:
    """Load a causal language model, find its sites, and prove that each is wired to the logits.

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
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            "the model must load with transformers", f"{path} ({_first_line(error)})", "check model.name and revision"
        ) from error
    anatomy = dissect(model.to(pick_device(device)).eval().requires_grad_(False))
    prove_wiring(anatomy)
    return anatomy


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def prove_wiring(anatomy: Anatomy) -> None:
    """Every site, zeroed, must change the logits, and an untouched row must equal the bare model bit for bit.

    A null result from a dead hook means nothing, so a dead hook stops the load.

    Raises:
        UserError: a hook does nothing, or changes what it should not.
    """
    sites = list(anatomy.sites)
    rows = [Request("bare", (1, 2, 3), 1)]
    rows += [Request(site, (1, 2, 3), 1, strengths=((site, 0.0),), positions="generated") for site in sites]
    slots = max(GRAIN, -(-len(rows) // GRAIN) * GRAIN)
    logits = _first_logits(anatomy, rows, slots)  # [rows, vocabulary]
    bare = _first_logits(anatomy, rows, slots, hooked=False)
    if not torch.equal(logits[0], bare[0]):
        raise UserError("hooks at factor 1 must change nothing", "other logits", "report this model to raybt")
    dead = [site for site, row in zip(sites, logits[1:], strict=True) if torch.equal(row, bare[0])]
    if dead:
        raise UserError(
            "zeroing a site must change the logits",
            f"no change at {', '.join(dead)}",
            "check the weights; a dead hook would give a null result that means nothing",
        )


@torch.inference_mode()
def _first_logits(anatomy: Anatomy, rows: list[Request], slots: int, hooked: bool = True) -> Tensor:
    decoder = Decoder(anatomy, Sampling(greedy=True), slots, length=GRAIN)
    if not hooked:
        decoder.close()
    try:
        decoder.submit(rows)
        decoder.refill()
        return decoder.forward()[: len(rows)]
    finally:
        decoder.close()


def numerics_class(anatomy: Anatomy, slots: int) -> str:
    """What decides the last bits of the logits: device, type, attention, slots, library versions."""
    device = torch.cuda.get_device_name() if anatomy.device.type == "cuda" else f"cpu/{platform.machine()}"
    dtype = str(anatomy.model.dtype).removeprefix("torch.")
    versions = (f"torch={torch.__version__}", f"transformers={transformers.__version__}")
    return "|".join([device, dtype, anatomy.model.config._attn_implementation, f"slots={slots}", *versions])
