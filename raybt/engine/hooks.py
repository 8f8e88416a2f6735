"""Coefficients -> live hooks: an intervention is a column of numbers that permanent hooks read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy


class Hooks:
    """One permanent forward hook per site; rows of different conditions sit side by side in a batch.

    Each hook multiplies its site's output by this step's gain of every slot and counts, in its own
    memory on the device, the slots whose output it changed. Gains are fp32 whatever the model's type:
    a bf16 factor would be another factor.

    Attributes:
        strength: [sites, slots] factor of each slot's condition; 1 changes nothing, bit for bit.
        gain: [sites, slots] what the hooks apply at this step (1 where the row's positions exclude it).
        touched: [sites, slots] steps at which the hook changed the slot's output.
        live: off during prefill, whose batch is a prompt and not the slots.
    """

    def __init__(self, anatomy: Anatomy, slots: int):
        self.index = {site: row for row, site in enumerate(anatomy.sites)}
        shape = (len(self.index), slots)
        self.strength = torch.ones(shape, device=anatomy.device)
        self.gain = torch.ones(shape, device=anatomy.device)
        self.touched = torch.zeros(shape, dtype=torch.int32, device=anatomy.device)
        self.live = False
        self._handles = [
            module.register_forward_hook(self._hook(self.index[site])) for site, module in anatomy.sites.items()
        ]

    def _hook(self, site: int):
        gain, touched = self.gain[site], self.touched[site]  # [slots] each, views

        def apply(_module, _inputs, output):
            if not self.live:
                return None
            touched.add_(gain != 1)
            if isinstance(output, tuple):
                return (_scaled(output[0], gain), *output[1:])
            return _scaled(output, gain)

        return apply

    def arm(self, gate: Tensor) -> None:
        """Set this step's gains. gate: [slots] bool, true where the row's intervention is on now."""
        self.gain.copy_(torch.where(gate, self.strength, 1.0))

    def assign(self, slot: int, strengths: Mapping[str, float]) -> None:
        """Give a slot its row's factors and a clean count."""
        column = torch.ones(len(self.index))
        for site, factor in strengths.items():
            column[self.index[site]] = factor
        self.strength[:, slot] = column.to(self.strength.device)
        self.touched[:, slot] = 0

    def receipts(self, slots: list[int]) -> list[dict[str, int]]:
        """Per slot: site -> steps at which the hook changed its output, sites never changed left out."""
        counts = self.touched[:, slots].T.tolist()  # [slots][sites]
        return [{site: column[row] for site, row in self.index.items() if column[row]} for column in counts]

    def remove(self) -> None:
        """Take every hook off the model."""
        while self._handles:
            self._handles.pop().remove()


def _scaled(output: Tensor, gain: Tensor) -> Tensor:
    """output: [slots, 1, hidden]; the product is taken in fp32 and cast back."""
    factor = gain[:, None, None]
    return output * factor if output.dtype == torch.float32 else (output.float() * factor).to(output.dtype)
