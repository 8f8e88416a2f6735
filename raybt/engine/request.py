"""What goes into the engine and what comes out of it, as plain data."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Operation = Literal["scale", "zero", "mean", "resample", "add", "project_out", "clamp"]
Positions = Literal["decode", "generated", "prompt", "all", "onset", "after_trigger"]
FinishReason = Literal["eos", "length", "error"]

DIRECTED = ("mean", "resample", "add", "project_out", "clamp")  # operations that need a vector
EVER = 1 << 40  # a step no row reaches

FIXED_STEPS = {"decode": (1, EVER), "generated": (0, EVER), "prompt": (0, 1), "all": (0, EVER)}
"""Positions -> (first, last) steps at which the intervention is on, last excluded; the others bring a window."""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen; one rule for all rows of a decoder.

    Order as in transformers: temperature, then top-k (0 keeps all), then top-p (1 keeps all).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    greedy: bool = False


class Term(NamedTuple):
    """One operation on what a site adds to the residual stream, x; at most one a site.

    `scale`: x s. `zero`: 0. `mean`: x + s (v - x). `resample`: the same, v a row of the bank drawn afresh at each
    position from the row's stream (one draw for all sites, so that they come from one place). `add`: x + s v.
    With u = v / |v|, `project_out`: x - s (x.u) u. `clamp`: x + (s - x.u) u.

    Args:
        strength: s above.
        vector: name of v in the decoder's bank; None for `scale` and `zero`.
    """

    site: str
    operation: Operation | str = "scale"
    strength: float = 0.0
    vector: str | None = None

    @property
    def changes(self) -> bool:
        """False for a term that changes nothing: a factor of exactly 1, or a strength of 0."""
        if self.operation == "scale":
            return self.strength != 1.0
        return self.operation in ("zero", "clamp") or self.strength != 0.0


def scaled(strengths: Iterable[tuple[str, float]]) -> tuple[Term, ...]:
    """(site, factor) pairs as terms: each site's output multiplied by its factor, 0 removes it."""
    return tuple(Term(site, "scale", factor) for site, factor in strengths)


@dataclass(frozen=True)
class Request:
    """One row: a prompt to continue under one intervention.

    Step i reads input position `len(prompt) - 1 + i` and writes token i, so N tokens are N steps and the first step
    reads the prompt's last token.

    Args:
        key: the row's name, given back with its completion.
        prompt: token ids, at least one.
        max_new_tokens: the row's limit, at least one.
        stream: 64-bit name of the row's random numbers; rows with one stream share their noise.
        terms: the intervention; empty for the baseline.
        positions: at which input positions the intervention is on. `decode`: every step but the first. `generated`:
            every step. `prompt`: the prompt's tokens. `all`: the prompt's tokens and every step. `onset`: the steps of
            `window`. `after_trigger`: the steps of `window`, counted anew from each step that reads the last token of
            a trigger.
        forced: tokens to write whatever the logits say (teacher forcing); the rest is sampled.
        window: (first, last) steps for `onset` and `after_trigger`, last excluded.
    """

    key: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    stream: int = 0
    terms: tuple[Term, ...] = ()
    positions: Positions = "decode"
    forced: tuple[int, ...] = ()
    window: tuple[int, int] | None = None

    @property
    def active(self) -> tuple[Term, ...]:
        """The terms that change anything."""
        return tuple(term for term in self.terms if term.changes)

    @property
    def steps_on(self) -> tuple[int, int]:
        """(first, last) steps of the intervention, last excluded; for `after_trigger` counted from a match."""
        return FIXED_STEPS.get(self.positions) or self.window or (0, 0)

    @property
    def touches_prompt(self) -> bool:
        """Whether the intervention is on during prefill, so that only rows that share it share the prefill."""
        return self.positions in ("prompt", "all") and bool(self.active)


@dataclass(frozen=True)
class Completion:
    """What a row became.

    Args:
        token_ids: the tokens written, the end-of-sequence token included.
        finish_reason: `eos`, `length` (the limit cut it), or `error` (see `error`).
        receipt: site -> input positions at which its hook changed the row's output, read from the hooks' own counters.
    """

    key: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    receipt: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0


def failed(request: Request, error: str) -> Completion:
    return Completion(request.key, (), "error", error=error)
