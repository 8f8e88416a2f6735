"""Between host and device without waiting: on a GPU from and to pinned memory, on a CPU at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

WORD = 16  # bytes; a view of wider numbers must begin at a multiple of their width


def sent(device: torch.device, *parts: Tensor) -> list[Tensor]:
    """Tensors of the host on the device, in one transfer; shapes and types stay.

    Args:
        parts: of any types; on a CPU they are given back as they are.
    """
    if device.type == "cpu":
        return list(parts)
    return unpacked(packed_up(parts, pin=torch.cuda.is_available()).to(device, non_blocking=True), parts)


def packed_up(parts: Sequence[Tensor], pin: bool = False) -> Tensor:
    """The bytes of tensors one after another, each from a multiple of WORD on."""
    flat = [part.contiguous().view(-1).view(torch.uint8) for part in parts]
    together = torch.zeros(sum(_room(part) for part in parts), dtype=torch.uint8, pin_memory=pin)
    start = 0
    for raw, part in zip(flat, parts, strict=True):
        together[start : start + len(raw)] = raw
        start += _room(part)
    return together


def unpacked(together: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of what `packed_up` put together, of the same shapes and types."""
    found, start = [], 0
    for part in like:
        found.append(together[start : start + part.nbytes].view(part.dtype).view(part.shape))
        start += _room(part)
    return found


def _room(part: Tensor) -> int:
    return -(-part.nbytes // WORD) * WORD


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
