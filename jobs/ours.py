"""raybt as `bench_engine.py` measures it: all rows through one decoder, with the time of its parts."""

import time
from collections import defaultdict
from typing import Any

from rivals import Measured, Row

from raybt.engine.anatomy import dissect
from raybt.engine.decode import Decoder
from raybt.engine.request import Completion, Request, Sampling, scaled

PARTS = ("forward", "sampling", "refill", "prefill")


class Clock:
    """CPU seconds by part of the decoder; parts within parts are subtracted by the caller."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, method: str, part: str) -> None:
        stock = getattr(owner, method)

        def timed(*args, **kwargs):
            start = time.process_time()
            try:
                return stock(*args, **kwargs)
            finally:
                self.seconds[part] += time.process_time() - start

        setattr(owner, method, timed)


class Ours:
    """D: a decoder over all rows that can be run in several goes.

    Args:
        model: hooks stay on it until the last row is written.
        temperature: 0 is greedy.
    """

    def __init__(self, model: Any, rows: list[Row], slots: int, temperature: float):
        start = time.process_time()
        self.rows, self.done, self.clock = rows, dict[str, Completion](), Clock()
        longest = max(len(row.prompt) + row.length for row in rows)
        self.decoder = Decoder(dissect(model), Sampling(temperature or 1.0, greedy=not temperature), slots, longest)
        for owner, method, part in (
            (self.decoder, "forward", "forward"),
            (self.decoder, "choose", "sampling"),
            (self.decoder, "refill", "refill"),
            (self.decoder.prefixes, "get", "prefill"),
            (self.decoder.hooks, "_apply", "hooks"),
            (self.decoder.hooks, "arm", "hooks"),
        ):
            self.clock.watch(owner, method, part)
        self.running = self.decoder.run(
            Request(str(i), row.prompt, row.length, i, scaled(row.factors)) for i, row in enumerate(rows)
        )
        self.seconds = time.process_time() - start

    def advance(self, share: float = 1.0) -> "Ours":
        """Write until this share of the rows is done."""
        start = time.process_time()
        while len(self.done) < share * len(self.rows):
            completion = next(self.running)
            self.done[completion.key] = completion
        self.seconds += time.process_time() - start
        if len(self.done) == len(self.rows):
            self.decoder.close()
        return self

    @property
    def tokens(self) -> list[list[int]]:
        """Each row's; all of the length that was asked for, or it is an error."""
        done = [self.done[str(i)] for i in range(len(self.rows))]
        assert all(d.error is None and len(d.token_ids) == row.length for d, row in zip(done, self.rows, strict=True))
        return [list(d.token_ids) for d in done]

    @property
    def measured(self) -> Measured:
        return Measured(sum(map(len, self.tokens)), self.seconds)

    @property
    def occupancy(self) -> float:
        return self.decoder.row_steps / self.decoder.slot_steps

    @property
    def share(self) -> dict[str, float]:
        """Of the time; hooks are part of forward, all others add up to 1."""
        parts = dict(self.clock.seconds)
        parts["refill"] -= parts["prefill"]
        parts["host"] = self.seconds - sum(parts[name] for name in PARTS)
        return {name: parts[name] / self.seconds for name in ("forward", "hooks", *PARTS[1:], "host")}
