"""Between host and device without waiting: on a GPU from and to pinned memory, on a CPU at once."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(device: torch.device, *parts: Tensor) -> list[Tensor]:
    """Tensors of the host on the device, in one transfer of 8-byte words; shapes and types stay.

    Args:
        parts: of any types; on a CPU they are given back as they are.
    """
    if device.type == "cpu":
        return list(parts)
    flat = [part.contiguous().view(-1).view(torch.uint8) for part in parts]
    padded = [-(-len(part) // 8) * 8 for part in flat]
    together = torch.zeros(sum(padded), dtype=torch.uint8, pin_memory=torch.cuda.is_available())
    starts = [sum(padded[:i]) for i in range(len(parts))]
    for start, part in zip(starts, flat, strict=True):
        together[start : start + len(part)] = part
    there = together.to(device, non_blocking=True)
    return [
        there[start : start + len(raw)].view(part.dtype).view(part.shape)
        for start, raw, part in zip(starts, flat, parts, strict=True)
    ]


class Fetched:
    """Copies of tensors on their way to the host.

    The copy is ordered after all that was launched before it, and what is launched later does not change it.
    """

    def __init__(self, *parts: Tensor):
        self.parts: Sequence[Tensor] = [part.to("cpu", non_blocking=True, copy=True) for part in parts]
        self.event = None
        if parts[0].device.type == "cuda":
            self.event = torch.cuda.Event()
            self.event.record(torch.cuda.current_stream(parts[0].device))

    @property
    def here(self) -> bool:
        return self.event is None or self.event.query()

    def wait(self) -> Sequence[Tensor]:
        """The copies, once they are here."""
        if self.event is not None:
            self.event.synchronize()
        return self.parts
