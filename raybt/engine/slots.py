"""The state of every slot, on the device, so that a step needs nothing from the host."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from raybt.engine.cache import GRAIN, rounded
from raybt.engine.receipts import Triggers
from raybt.engine.request import EVER, Request
from raybt.engine.transfer import Fetched, sent

FIELDS = ("tokens", "positions", "steps", "limits", "running", "usable", "first", "last", "after", "matched", "stream")
NEVER = -2 * EVER  # the step of a match that has not happened


class Slots:
    """What each slot reads, where it stands and what it has written.

    The host keeps its own upper bound of each slot's position (a live row advances one a step), so that
    the attended length needs no look at the device.

    Attributes:
        state: [fields, slots] int64, one tensor so that a refill is one copy; the fields are views of it:
        tokens: [slots] the token each slot reads next.
        positions: [slots] where that token stands.
        steps, limits: [slots] tokens written so far, and at most.
        running: [slots] 0 once a row has ended (it then writes nothing until refilled).
        usable: [slots] 0 once a row's logits were NaN or infinite.
        first, last: [slots] steps at which the intervention is on, last excluded, counted from `matched` where `after`.
        matched: [slots] step that reads the last token of the latest trigger.
        stream: [slots] the 64 bits of the row's random stream.
        written: [slots, length] the tokens written.
    """

    def __init__(
        self, slots: int, length: int, eos_ids: tuple[int, ...], device: torch.device, triggers: Triggers = ()
    ):
        self.state = torch.zeros(len(FIELDS), slots, dtype=torch.long, device=device)
        self.tokens, self.positions, self.steps, self.limits, self.running, self.usable = self.state[:6]
        self.first, self.last, self.after, self.matched, self.stream = self.state[6:]
        self.written = torch.zeros(slots, length, dtype=torch.long, device=device)
        self.forced = torch.full((slots, length), -1, device=device)
        self.forcing = self.watching = False
        self.eos_ids = eos_ids
        self.reach = [-1] * slots  # host's bound of positions; -1 where free
        self.triggers = _padded(triggers).to(device)  # [triggers, longest], -1 on the left
        self.recent = torch.full((slots, self.triggers.shape[1]), -2, device=device)  # the last tokens written

    def start(self, started: list[tuple[int, Request]], where: Tensor, columns: Tensor) -> None:
        """Put rows at their first step, which reads the last prompt token.

        Args:
            where: [rows] their slots, on the device.
            columns: [fields, rows] as `columns` gave them, on the device.
        """
        self.state.index_copy_(1, where, columns)
        self.recent.index_fill_(0, where, -2)
        for slot, request in started:
            self.reach[slot] = len(request.prompt) - 1
            self.watching |= request.positions == "after_trigger"
        if self.forcing or any(request.forced for _, request in started):
            self._force(where, [request.forced for _, request in started])

    def _force(self, where: Tensor, forced: list[tuple[int, ...]]) -> None:
        self.forcing = True
        rows = torch.full((len(forced), self.forced.shape[1]), -1)
        for row, tokens in zip(rows, forced, strict=True):
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        self.forced.index_copy_(0, where, *sent(self.forced.device, rows))

    def gate(self) -> Tensor:
        """[slots] bool: rows whose intervention is on at this step."""
        since = self.steps - self.matched * self.after if self.watching else self.steps
        return self.running.bool() & (self.first <= since) & (since < self.last)

    def window(self) -> int:
        """A multiple of 16 that covers every slot's position."""
        return max(GRAIN, rounded(max(self.reach) + 1))

    def record(self, tokens: Tensor, usable: Tensor) -> None:
        """Write each running row's token and move it on. tokens, usable: [slots].

        An ended row stands still: what it goes on to write lies beyond its end, and nobody reads it.
        """
        if self.forcing:
            due = self.forced.gather(1, self.steps[:, None])[:, 0]
            tokens = torch.where(due >= 0, due, tokens)
        running = self.running.bool()
        self.written.scatter_(1, self.steps[:, None], tokens[:, None])
        self.tokens.copy_(tokens)
        self.usable &= usable | ~running
        self.steps += self.running
        self.positions += self.running
        if self.watching:
            self._match(tokens, running)
        goes_on = (self.steps < self.limits) & usable
        for eos in self.eos_ids:
            goes_on &= tokens != eos
        self.running &= goes_on

    def _match(self, tokens: Tensor, running: Tensor) -> None:
        """Note the step at which a row will read the last token of a trigger."""
        shifted = torch.cat([self.recent[:, 1:], tokens[:, None]], dim=1)
        self.recent.copy_(torch.where(running[:, None], shifted, self.recent))
        alike = (self.recent[:, None] == self.triggers) | (self.triggers < 0)  # [slots, triggers, longest]
        hit = alike.all(-1).any(-1) & running
        self.matched.copy_(torch.where(hit, self.steps, self.matched))

    def advanced(self) -> None:
        """The host's part of a step: every occupied slot may have moved on by one."""
        self.reach = [reach + (reach >= 0) for reach in self.reach]

    def look(self) -> Fetched:
        """A copy of how slots stand after the steps so far; see `Standing`."""
        return Fetched(self.state[FIRST : FIRST + len(Standing._fields)])

    def free(self, slots: Iterable[int]) -> None:
        """The host's part of a row's end."""
        for slot in slots:
            self.reach[slot] = -1


class Standing(NamedTuple):
    """How every slot stood when it was looked at, in the order of the state's fields; [slots] each."""

    steps: list[int]
    limits: list[int]
    running: list[int]
    usable: list[int]


FIRST = FIELDS.index(Standing._fields[0])


def columns_of(requests: Iterable[Request]) -> Tensor:
    """[fields, rows] rows' first states, on the host."""
    return torch.tensor([_column(request) for request in requests], dtype=torch.long).T


def _column(request: Request) -> list[int]:
    """A row's first state, in the order of FIELDS."""
    first, last = request.steps_on
    after = request.positions == "after_trigger"
    stream = request.stream - (1 << 64) if request.stream >> 63 else request.stream
    at_last = (request.prompt[-1], len(request.prompt) - 1)
    return [*at_last, 0, request.max_new_tokens, 1, 1, first, last, int(after), NEVER if after else 0, stream]


def _padded(triggers: Triggers) -> Tensor:
    longest = max(map(len, triggers), default=1)
    rows = [[-1] * (longest - len(one)) + list(one) for one in triggers]
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), longest)
