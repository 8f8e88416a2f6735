"""A part of a run: only some stages, or all from one on, and what these need."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from raybt.config import BASELINE, Config, Measured, found_in
from raybt.errors import UserError
from raybt.fleet.joining import of_keys
from raybt.plan.rows import Plan


@dataclass(frozen=True)
class Chosen:
    """Stages to run; None runs all. `baselines`: and every stage's baseline."""

    stages: frozenset[str] | None = None
    baselines: bool = False

    def __contains__(self, stage: str) -> bool:
        """A search's rungs and confirmation belong to it."""
        return self.stages is None or stage in self.stages or stage.rpartition(".")[0] in self.stages


def choose(config: Config, only: Sequence[str] = (), first: str | None = None) -> Chosen:
    """The stages named, or `first` and all after it, with those that they need.

    Raises:
        UserError: there is no such stage, or both ways are used.
    """
    order = stage_names(config)
    if only and first:
        raise UserError("a part of a run is named by --only or by --from", "both", "use one of them")
    for name in (*only, *([first] if first else [])):
        if name not in order:
            raise UserError("--only and --from name a stage of the config", name, f"its stages are {', '.join(order)}")
    if not only and not first:
        return Chosen()
    wanted = set(only) if only else set(order[order.index(first or "") :])
    needed = set(wanted)
    while more := {name for stage in needed for name in needs(config, stage)} - needed:
        needed |= more
    return Chosen(frozenset(needed))


def stage_names(config: Config) -> list[str]:
    """Every stage in the order in which it can run: the baseline, grids, measurements and searches."""
    plain = [*config.interventions.grids, *config.stages]
    waits = {name for name in plain if needs(config, name) - {BASELINE}}
    first = [BASELINE] if config.stages or not plain else []
    return [*first, *(name for name in plain if name not in waits), *(name for name in plain if name in waits)]


def needs(config: Config, stage: str) -> set[str]:
    """Stages that must be complete before this one can begin."""
    grid, other = config.interventions.grids.get(stage), config.stages.get(stage)
    subsets = grid.subsets if grid else other.named_subsets if other else ()
    scans = {found.from_ for name in subsets for found in found_in(config.interventions.subsets[name])}
    return scans | ({BASELINE} if isinstance(other, Measured) or scans else set())


def rows_of_stages(plan: Plan, work: pa.Table, chosen: Chosen) -> pa.Table:
    """The rows of `work` that a chosen stage has."""
    if chosen.stages is None:
        return work
    keys = [
        row["key"]
        for table in (plan.rows, plan.measurements)
        for row in table.select(["stage", "condition", "key"]).to_pylist()
        if row["stage"] in chosen or (chosen.baselines and row["condition"] == BASELINE)
    ]
    return of_keys([work], keys)
