"""Which conditions each stage writes under, once the subsets are known: what planning works from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raybt.config import BASELINE, Config, Grid, Vectors, found_in
from raybt.plan.model_facts import ModelFacts
from raybt.plan.sites import expand

TARGET, CONTROL, DIRECTION = "target", "control", "direction"


@dataclass(frozen=True)
class Part:
    """Conditions of one stage that are there for one reason.

    Args:
        grid: its subsets are all known; None for the baseline alone.
        role: `target`, or `control` or `direction`, which a target is compared with.
        of: the subset that it is a control of, at the same dose or at `of_dose`.
    """

    stage: str
    grid: Grid | None
    role: str = TARGET
    of: str | None = None
    of_dose: float | None = None


@dataclass(frozen=True)
class Layout:
    """Everything that a plan's conditions are made from.

    Args:
        subsets: name -> sites, those of the config and those that the study drew or found.
        parts: the parts of a stage follow each other.
        problems: stage -> the problems that it runs on; a stage that is not here runs on all.
        vectors: set name -> how it is made.
        measured_at: set name -> sites at which measurements use it, beside the grids.
        waiting: stage -> what it waits for.
    """

    subsets: dict[str, tuple[str, ...]]
    parts: tuple[Part, ...]
    problems: dict[str, tuple[str, ...]] = field(default_factory=dict)
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    measured_at: dict[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def grids(self) -> list[Grid]:
        return [part.grid for part in self.parts if part.grid is not None]

    @property
    def stages(self) -> list[str]:
        """Names of the stages, in order."""
        return list(dict.fromkeys(part.stage for part in self.parts))

    def variants(self, stage: str, config: Config) -> tuple[str, ...]:
        """Prompt variants that a stage crosses its conditions with."""
        grid = next(part.grid for part in self.parts if part.stage == stage)
        return (grid.variants if grid else None) or tuple(config.prompt.variants)


def plain_layout(config: Config, facts: ModelFacts) -> Layout:
    """The grids whose subsets the config spells out. Without any there is one stage, the baseline alone.

    Raises:
        UserError: a subset names a site that the model does not have.
    """
    subsets = fixed_subsets(config, facts)
    grids = {
        name: grid for name, grid in config.interventions.grids.items() if all(one in subsets for one in grid.subsets)
    }
    parts = [Part(name, grid) for name, grid in grids.items()] or [Part(BASELINE, None)]
    return Layout(subsets, tuple(parts), vectors=config.interventions.vectors)


def fixed_subsets(config: Config, facts: ModelFacts) -> dict[str, tuple[str, ...]]:
    """Subset -> its sites, of the subsets that need no scan; families are left out.

    Raises:
        UserError: one names a site that the model does not have.
    """
    return {
        name: expand([one for one in named if isinstance(one, str)], facts.n_layers, facts.n_heads)
        for name, named in config.interventions.subsets.items()
        if isinstance(named, tuple) and not found_in(named)
    }
