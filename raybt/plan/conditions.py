"""Config -> conditions: each stage's baseline, then its subsets x scales."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raybt.config import BASELINE, Config, Grid
from raybt.plan import sites
from raybt.store.schemas import CONDITIONS


def plan_conditions(config: Config, n_layers: int) -> pa.Table:
    """Conditions of every stage, the baseline first in each; schema CONDITIONS.

    A stage is a grid. Without grids there is one stage, `baseline`, of the baseline alone.

    Raises:
        UserError: a subset names a site that the model does not have.
    """
    subsets = {name: sites.expand(patterns, n_layers) for name, patterns in config.interventions.subsets.items()}
    rows = [row for stage, grid in stages(config).items() for row in _stage(stage, grid, subsets)]
    return pa.Table.from_pylist(rows, schema=CONDITIONS)


def stages(config: Config) -> dict[str, Grid | None]:
    """Stage name -> its grid; None where a stage is the baseline alone."""
    return dict(config.interventions.grids) or {BASELINE: None}


def stage_variants(config: Config, grid: Grid | None) -> tuple[str, ...]:
    """Prompt variants that a stage crosses its conditions with."""
    return (grid.variants if grid else None) or tuple(config.prompt.variants)


def condition_name(subset: str, scale: float) -> str:
    """`subset@scale` with the shortest number that reads back as the same scale."""
    short = f"{scale + 0.0:g}"
    return f"{subset}@{short if float(short) == scale else repr(scale)}"


def _stage(stage: str, grid: Grid | None, subsets: dict[str, tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    positions = grid.positions if grid else "decode"
    yield _condition(stage, BASELINE, BASELINE, sites.NO_CHANGE, positions, ())
    for subset in grid.subsets if grid else ():
        for scale in grid.scales if grid else ():
            yield _condition(stage, condition_name(subset, scale), subset, scale, positions, subsets[subset])


def _condition(
    stage: str, name: str, subset: str, scale: float, positions: str, named: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "stage": stage,
        "condition": name,
        "subset": subset,
        "scale": scale,
        "positions": positions,
        "sites": list(named),
        "intervention": sites.canonical(named, scale),
    }
