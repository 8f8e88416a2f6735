"""Kernels for what plain torch does too slowly. Each is tested against the plain way.

In Triton for a GPU, loaded only where there is one or where TRITON_INTERPRET=1 runs them on the CPU; in C for a CPU,
compiled when a model needs it, and done without where there is no compiler.
"""

import importlib.util
import os

import torch

HAVE_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def by_triton(device: torch.device) -> bool:
    """Whether Triton's kernels run there: on the current GPU, where they are launched, and in its interpreter."""
    if device.type != "cuda":
        return HAVE_TRITON and INTERPRETED
    return HAVE_TRITON and device.index in (None, torch.cuda.current_device())
