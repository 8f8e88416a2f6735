"""Rows that have ended, on their way from the slots to the host."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from raybt.engine.hooks import Hooks
from raybt.engine.receipts import Triggers, receipt_error
from raybt.engine.request import Completion, Request
from raybt.engine.slots import Slots, Standing
from raybt.engine.transfer import Fetched

Row = tuple[Request, float, int, bool]
"""A row that has ended: its request, when it started, tokens written, whether its logits were usable throughout."""


@dataclass(frozen=True)
class Leaving:
    """Rows that ended together, and what is copied out for them: tokens [rows, length], counts [sites, rows]."""

    rows: list[Row]
    copies: Fetched


class Exits:
    """How slots stood after each step, and what ended rows leave behind, without waiting for the step just launched.

    On a GPU the host looks one step behind: while it reads how slots stood after one step, the next one runs. A row's
    slot then stands still for a step before it is free.
    """

    def __init__(self, hooks: Hooks, eos_ids: tuple[int, ...], triggers: Triggers):
        self.hooks, self.eos_ids, self.triggers = hooks, eos_ids, triggers
        self.behind = 1 if hooks.device.type == "cuda" else 0
        self.looks: deque[tuple[list[int], Fetched]] = deque()
        self.leaving: deque[Leaving] = deque()

    def look(self, slots: Slots, tenants: list[int]) -> None:
        """Have a copy made of how slots stand now. tenants: which of its rows each slot holds."""
        self.looks.append((list(tenants), slots.look()))

    def seen(self) -> Iterator[tuple[list[int], Standing]]:
        """Tenants, and how the slots stood, of every step that is due."""
        while len(self.looks) > self.behind:
            tenants, copied = self.looks.popleft()
            yield tenants, Standing(*copied.wait()[0].tolist())

    def leave(self, rows: list[Row], copies: Fetched) -> None:
        self.leaving.append(Leaving(rows, copies))

    def arrived(self, wait: bool) -> list[Completion]:
        """Rows whose copies have reached the host; with `wait`, all."""
        done: list[Completion] = []
        while self.leaving and (wait or self.leaving[0].copies.here):
            leaving = self.leaving.popleft()
            written, touched = leaving.copies.wait()
            receipts = self.hooks.receipts(touched)
            for row, tokens, receipt in zip(leaving.rows, written, receipts, strict=True):
                done.append(self._completion(*row, tokens.tolist(), receipt))
        return done

    def _completion(
        self, request: Request, began: float, count: int, usable: bool, tokens: list[int], receipt: dict[str, int]
    ) -> Completion:
        tokens, seconds = tokens[:count], time.perf_counter() - began
        error = None if usable else "the model gave NaN or infinite logits"
        error = error or receipt_error(request, receipt, tokens, self.triggers)
        reason = "error" if error else "eos" if tokens[-1] in self.eos_ids else "length"
        return Completion(request.key, tuple(tokens), reason, receipt, error, seconds)
