"""What goes into the engine and what comes out of it, as plain data."""

from dataclasses import dataclass, field
from typing import Literal

Positions = Literal["decode", "generated"]
FinishReason = Literal["eos", "length", "error"]


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen; one rule for all rows of a decoder.

    Order as in transformers: temperature, then top-k (0 keeps all), then top-p (1 keeps all).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    greedy: bool = False


@dataclass(frozen=True)
class Request:
    """One row: a prompt to continue under one intervention.

    Args:
        key: the row's name, given back with its completion.
        prompt: token ids, at least one.
        max_new_tokens: the row's limit, at least one.
        stream: 64-bit name of the row's random numbers; rows with one stream share their noise.
        strengths: (site, factor) pairs; the site's output is multiplied by the factor, 0 removes it.
        positions: at which steps the intervention is on. A row's first step reads the last prompt
            token: `decode` leaves it untouched, `generated` does not. N tokens are N steps.
        forced: tokens to write whatever the logits say (teacher forcing); the rest is sampled.
    """

    key: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    stream: int = 0
    strengths: tuple[tuple[str, float], ...] = ()
    positions: Positions = "decode"
    forced: tuple[int, ...] = ()

    @property
    def active(self) -> dict[str, float]:
        """The terms that change anything: a factor of exactly 1 is no intervention."""
        return {site: factor for site, factor in self.strengths if factor != 1.0}

    def demanded_steps(self, written: int) -> int:
        """Steps at which each active site must have changed its output, after `written` tokens."""
        return written if self.positions == "generated" else written - 1


@dataclass(frozen=True)
class Completion:
    """What a row became.

    Args:
        token_ids: the tokens written, the end-of-sequence token included.
        finish_reason: `eos`, `length` (the limit cut it), or `error` (see `error`).
        receipt: site -> steps at which its hook changed the row's output, read from the hooks' own counters.
    """

    key: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    receipt: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0


def failed(request: Request, error: str) -> Completion:
    return Completion(request.key, (), "error", error=error)
