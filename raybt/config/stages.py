"""What a run does beside its grids: stages that measure at onsets, and the search."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raybt.config.base import Name, Scale, Section, check_no_repeats
from raybt.config.interventions import Half


class Measured(Section):
    """A stage that measures at onsets of the baseline's completions."""

    events: int = Field(default=120, ge=1)
    """Onsets to measure at, at most; spread over the problems."""
    per_problem: int = Field(default=4, ge=1)
    """Onsets of one problem, at most."""
    variant: Name | None = None
    """Prompt variant whose baseline the onsets come from; null takes the first."""
    problems: Half = "select"
    """Half of the problems that the onsets come from."""

    @property
    def prompt_variants(self) -> tuple[str, ...]:
        return () if self.variant is None else (self.variant,)

    @property
    def named_subsets(self) -> tuple[str, ...]:
        return ()


class Lens(Measured):
    kind: Literal["lens"]
    """What each layer would say: the target's logit, log-probability and rank through the final norm and head, and what
    each component adds to its logit; at onsets, and at controls of the same position and of the same local context."""


class Scan(Measured):
    kind: Literal["scan"]
    """What each site does to the next token, at the position before an onset and at control positions."""
    sites: tuple[str, ...] = Field(default=("attn.*", "mlp.*"), min_length=1)
    operations: tuple[Literal["zero", "mean"], ...] = Field(default=("zero", "mean"), min_length=1)
    """`zero` removes a site's output; `mean` replaces it by its mean over the baseline's generated tokens."""

    @model_validator(mode="after")
    def _check(self):
        check_no_repeats("operations", self.operations)
        return self


class Dosed(Section):
    """Subsets crossed with scales."""

    subsets: tuple[Name, ...] = Field(min_length=1)
    scales: tuple[Scale, ...] = Field(default=(0.0,), min_length=1)

    @property
    def named_subsets(self) -> tuple[str, ...]:
        return self.subsets

    @model_validator(mode="after")
    def _check_doses(self):
        for label in ("subsets", "scales"):
            check_no_repeats(label, getattr(self, label))
        return self


class Continuation(Dosed, Measured):
    kind: Literal["continuation"]
    """What follows an onset's prefix when an intervention is on at that one step: first the next token's probabilities,
    then `draws` resampled continuations, with the intervention and without."""
    problems: Half = "confirm"
    """Half of the problems that the onsets come from."""
    draws: int = Field(default=4, ge=0)
    """Continuations of each onset under each condition, each with noise of its own."""
    max_new_tokens: int = Field(default=32, ge=1)
    """Length of a continuation."""


class Search(Dosed):
    kind: Literal["search"]
    """The smallest subset and mildest scale that cut backtracking by `reduce` while accuracy stays within `margin`:
    successive halving on the `select` half of the problems, then one confirmation on the `confirm` half."""
    scales: tuple[Scale, ...] = Field(default=(0.0, 0.25, 0.5, 0.75), min_length=1)
    variant: Name | None = None
    """Prompt variant; null takes the first."""
    reduce: float = Field(default=0.5, gt=0, le=1)
    """Share of the baseline's onset rate that must go."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """Accuracy over all that may be lost, as a share of completions."""
    rungs: int = Field(default=3, ge=1)
    """Rounds; each has more problems and fewer candidates, the last the whole half."""
    keep: float = Field(default=0.34, gt=0, lt=1)
    """Share of the candidates that a rung keeps; the next has 1 / keep times its problems."""

    @property
    def prompt_variants(self) -> tuple[str, ...]:
        return () if self.variant is None else (self.variant,)

    @model_validator(mode="after")
    def _check(self):
        if any(scale == 1 for scale in self.scales):
            raise ValueError("a search looks for what changes something, and scale 1 is the baseline; remove it")
        return self


Stage = Annotated[Lens | Scan | Continuation | Search, Field(discriminator="kind")]
