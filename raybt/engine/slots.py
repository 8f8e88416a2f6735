"""The state of every slot, on the device, so that a step needs nothing from the host."""

import numpy as np
import torch
from torch import Tensor

from raybt.engine.cache import GRAIN, rounded
from raybt.engine.request import Request


class Slots:
    """What each slot reads, where it stands and what it has written.

    The host keeps its own upper bound of each slot's position (a live row advances one a step), so that
    the attended length needs no look at the device.

    Attributes:
        tokens: [slots] the token each slot reads next.
        positions: [slots] where that token stands.
        steps: [slots] tokens written so far.
        running: [slots] bool, false once a row has ended (it then writes nothing until refilled).
        written: [slots, length] the tokens written.
        streams: [2, slots] random streams as 32-bit words.
    """

    def __init__(self, slots: int, length: int, eos_ids: tuple[int, ...], device: torch.device):
        def zeros(*shape, dtype=torch.long):
            return torch.zeros(shape, dtype=dtype, device=device)

        self.tokens, self.positions, self.steps, self.limits = (zeros(slots) for _ in range(4))
        self.running, self.from_first, self.usable = (zeros(slots, dtype=torch.bool) for _ in range(3))
        self.written, self.streams = zeros(slots, length), zeros(2, slots)
        self.forced = torch.full((slots, length), -1, device=device)
        self.forcing = False
        self.eos = torch.tensor(eos_ids, dtype=torch.long, device=device)
        self.rows = torch.arange(slots, device=device)
        self.reach = np.full(slots, -1)  # host's bound of positions; -1 where free

    def start(self, slot: int, request: Request, stream: Tensor) -> None:
        """Put a row at its first step, which reads the last prompt token."""
        self.tokens[slot] = request.prompt[-1]
        self.positions[slot] = len(request.prompt) - 1
        self.steps[slot] = 0
        self.limits[slot] = request.max_new_tokens
        self.running[slot] = self.usable[slot] = True
        self.from_first[slot] = request.positions == "generated"
        self.streams[:, slot] = stream.to(self.streams.device)
        self.reach[slot] = len(request.prompt) - 1
        self._force(slot, request.forced)

    def _force(self, slot: int, forced: tuple[int, ...]) -> None:
        if forced or self.forcing:
            self.forcing = True
            self.forced[slot] = -1
            self.forced[slot, : len(forced)] = torch.tensor(forced, dtype=torch.long)

    def gate(self) -> Tensor:
        """[slots] bool: rows whose intervention is on at this step."""
        return self.running & (self.from_first | (self.steps > 0))

    def window(self) -> int:
        """A multiple of 16 that covers every slot's position."""
        return max(GRAIN, rounded(int(self.reach.max()) + 1))

    def record(self, tokens: Tensor, usable: Tensor) -> None:
        """Write each running row's token and move it on. tokens, usable: [slots]."""
        if self.forcing:
            due = self.forced.gather(1, self.steps[:, None])[:, 0]
            tokens = torch.where(due >= 0, due, tokens)
        running = self.running
        self.written[self.rows, self.steps] = torch.where(running, tokens, self.written[self.rows, self.steps])
        self.tokens.copy_(torch.where(running, tokens, self.tokens))
        self.usable &= usable | ~running
        self.steps += running
        self.positions += running
        self.running &= ~torch.isin(tokens, self.eos) & (self.steps < self.limits) & usable
        self.reach += self.reach >= 0

    def ended(self, occupied: list[int]) -> list[int]:
        """Which of the occupied slots hold a row that has ended. Waits for the device."""
        running = self.running.tolist()
        return [slot for slot in occupied if not running[slot]]

    def take(self, slot: int) -> tuple[list[int], bool]:
        """A finished slot's tokens, and whether its logits were usable throughout."""
        self.reach[slot] = -1
        return self.written[slot, : int(self.steps[slot])].tolist(), bool(self.usable[slot])
