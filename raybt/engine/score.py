"""Teacher forcing through the real decode loop: the logits an intervention gives along fixed tokens."""

from dataclasses import replace

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.receipts import Triggers
from raybt.engine.request import Request, Sampling


class Recorder(Decoder):
    """A decoder that keeps every row's logits."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, capture=False)  # a replayed graph would record nothing
        self.seen: dict[str, list[Tensor]] = {}

    def forward(self) -> Tensor:
        logits = super().forward()
        for slot, request in enumerate(self.requests):
            if request is not None:
                self.seen.setdefault(request.key, []).append(logits[slot].clone())
        return logits


def forced_logits(
    anatomy: Anatomy,
    requests: list[Request],
    tokens: dict[str, tuple[int, ...]],
    slots: int = 64,
    bank: Bank | None = None,
    triggers: Triggers = (),
) -> dict[str, Tensor]:
    """Logits at every step while each row is made to write the given tokens.

    Args:
        tokens: row key -> tokens to write, at least one.

    Returns:
        Row key -> [tokens, vocabulary].

    Raises:
        RuntimeError: a row failed; its error is in the message.
    """
    rows = [replace(row, forced=tokens[row.key], max_new_tokens=len(tokens[row.key])) for row in requests]
    length = max(len(row.prompt) + row.max_new_tokens for row in rows)
    recorder = Recorder(anatomy, Sampling(greedy=True), slots, length, bank, triggers)
    try:
        for completion in recorder.run(rows):
            if completion.error:
                raise RuntimeError(f"{completion.key}: {completion.error}")
    finally:
        recorder.close()
    return {key: torch.stack(logits[: len(tokens[key])]) for key, logits in recorder.seen.items()}
