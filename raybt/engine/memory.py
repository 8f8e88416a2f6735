"""How many slots fit into memory, and how an allocation that does not fit shows itself."""

import gc

import torch

from raybt.engine.anatomy import Anatomy
from raybt.engine.cache import GRAIN, rounded
from raybt.engine.kernels import by_triton
from raybt.engine.prefill import prefilled
from raybt.errors import UserError

ON_CPU = 64
MOST = 512  # more slots than this gain little: the weights are read once a step for all of them
KEPT_FREE = 0.15
"""Share of the free memory that is left to the forward pass, prefills and the allocator."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: torch has a type for it on a GPU, and only a text on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release(device: torch.device) -> None:
    """Have torch give back to a GPU what nothing holds any more. A cache and its layers hold one another."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def bytes_per_slot(anatomy: Anatomy, length: int) -> int:
    """What a slot of this length takes: keys and values, logits and their fp32 copies, tokens."""
    size, passes = anatomy.model.dtype.itemsize, 1
    if by_triton(anatomy.device):
        passes = 2  # a step's memory when it is run, and again in the pool of the graphs
    keys_and_values = sum(layer.nbytes for layer in prefilled(anatomy, (0,)))  # of one token
    return keys_and_values * rounded(length) + passes * anatomy.vocabulary * (size + 3 * 4) + 3 * 8 * rounded(length)


def fit_slots(anatomy: Anatomy, length: int, asked: int | None = None, free: int | None = None) -> int:
    """Slots to decode with: those asked for, or as many as fit; 64 on the CPU.

    Args:
        length: longest row, prompt and new tokens together.
        free: bytes of device memory; None asks the device, and on the CPU does not limit.

    Raises:
        UserError: fewer than 16 fit, or fewer than were asked for.
    """
    each = bytes_per_slot(anatomy, length)
    if free is None and anatomy.device.type == "cuda":
        release(anatomy.device)
        free = torch.cuda.mem_get_info(anatomy.device)[0]
    if free is None:
        return asked or ON_CPU
    fitting = int(free * (1 - KEPT_FREE)) // each // GRAIN * GRAIN
    if fitting < (asked or GRAIN):
        shorter = int(length * free * (1 - KEPT_FREE) / each / GRAIN) // GRAIN * GRAIN
        raise UserError(
            f"{asked or GRAIN} slots of {length} tokens must fit into the memory that the model leaves free",
            f"they need {(asked or GRAIN) * each / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free, of which "
            f"{KEPT_FREE:.0%} are kept for the step",
            f"set replicas.slots to {fitting}" if fitting else f"shorten rows to {max(shorter, 1)} tokens, 16 slots",
        )
    return asked or min(fitting, MOST)
