"""How many slots fit into memory, and how an allocation that does not fit shows itself."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: torch has a type for it on a GPU, and only a text on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
