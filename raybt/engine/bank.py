"""The vectors that interventions use, once on the device; rows hold an index and a strength, never a vector."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Bank:
    """Named vectors stacked into one tensor.

    Args:
        vectors: name -> [width], or [n, width] for `resample` to draw from; narrower ones (a head's) are padded with 0.

    Attributes:
        rows: [vectors, widest] fp32.
    """

    def __init__(self, vectors: Mapping[str, Tensor], device: torch.device | str = "cpu"):
        tables = {name: torch.atleast_2d(vector.float()) for name, vector in vectors.items()}
        self.widths = {name: table.shape[1] for name, table in tables.items()}
        widest = max(self.widths.values(), default=1)
        self._spans: dict[str, tuple[int, int, float]] = {}
        start, padded = 0, [torch.zeros(0, widest)]
        for name, table in tables.items():
            self._spans[name] = (start, len(table), float(table[0].norm()))
            padded.append(torch.nn.functional.pad(table, (0, widest - table.shape[1])))
            start += len(table)
        stacked = torch.cat(padded) if tables else torch.zeros(1, widest)
        self.rows = stacked.to(device)

    def on(self, device: torch.device) -> "Bank":
        """This bank with its vectors on a device."""
        self.rows = self.rows.to(device)
        return self

    def find(self, name: str | None) -> tuple[int, int, float]:
        """(first row, rows, norm of the first) of a named vector."""
        assert name is not None, "an operation that needs a vector names one"
        return self._spans[name]

    def __contains__(self, name: object) -> bool:
        return name in self._spans
