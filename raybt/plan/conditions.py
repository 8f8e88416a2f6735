"""Config -> conditions: each stage's baseline, then its subsets x scales or strengths."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raybt.config import BASELINE, Config, Grid
from raybt.plan import sites
from raybt.plan.model_facts import ModelFacts
from raybt.plan.vectors import VectorSet, content_hash, vector_at
from raybt.store.schemas import CONDITIONS

Vectors = Mapping[str, VectorSet]


def plan_conditions(config: Config, facts: ModelFacts, vectors: Vectors | None = None) -> pa.Table:
    """Conditions of every stage, the baseline first in each; schema CONDITIONS.

    A stage is a grid. Without grids there is one stage, `baseline`, of the baseline alone.

    Args:
        vectors: set name -> site -> vector, of the sets that are there.

    Raises:
        UserError: a subset names a site that the model does not have, or a vector is missing or unfit.
    """
    subsets = expand_subsets(config, facts)
    rows = [
        row
        for stage, grid in stages(config).items()
        for row in _stage(stage, grid, subsets, vectors or {}, positions_of(grid, config, facts))
    ]
    return pa.Table.from_pylist(rows, schema=CONDITIONS)


def expand_subsets(config: Config, facts: ModelFacts) -> dict[str, tuple[str, ...]]:
    """Subset -> its sites.

    Raises:
        UserError: one names a site that the model does not have.
    """
    patterns = config.interventions.subsets
    return {name: sites.expand(named, facts.n_layers, facts.n_heads) for name, named in patterns.items()}


def positions_of(grid: Grid | None, config: Config, facts: ModelFacts) -> str:
    """A grid's positions as they stand in tables and keys: after triggers, with window and the triggers' tokens."""
    if grid is None or grid.window is None:
        return grid.positions if grid else "decode"
    ngrams = trigger_tokens(config.triggers.strict, facts)
    return f"{grid.positions}:{json.dumps([list(grid.window), ngrams], separators=(',', ':'))}"


def trigger_tokens(phrases: Sequence[str], facts: ModelFacts) -> list[list[int]]:
    """Every trigger as token ids, as it stands at a line's start and after a space."""
    texts = [text for phrase in phrases for text in (phrase, f" {phrase}")]
    found = [tuple(ids) for ids in facts.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return [list(ids) for ids in sorted(set(found))]


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


def _stage(
    stage: str, grid: Grid | None, subsets: dict[str, tuple[str, ...]], vectors: Vectors, positions: str
) -> Iterator[dict[str, Any]]:
    yield _condition(stage, BASELINE, None, BASELINE, sites.NO_CHANGE, positions, [])
    for subset in grid.subsets if grid else ():
        for dose in grid.doses if grid else ():
            assert grid is not None
            terms = [sites.Term(site, grid.operation, dose, _hash(grid, site, vectors)) for site in subsets[subset]]
            yield _condition(stage, _name(grid, subset, dose), grid, subset, dose, positions, terms)


def _hash(grid: Grid, site: str, vectors: Vectors) -> str | None:
    return None if grid.vectors is None else content_hash(vector_at(vectors, grid, site))


def _name(grid: Grid, subset: str, dose: float) -> str:
    """`late@0.5`; with vectors `late+add:onset@4`."""
    if grid.operation in ("scale", "zero"):
        return condition_name(subset, dose)
    return condition_name(f"{subset}+{grid.operation}:{grid.vectors}", dose)


def _condition(
    stage: str, name: str, grid: Grid | None, subset: str, dose: float, positions: str, terms: list[sites.Term]
) -> dict[str, Any]:
    return {
        "stage": stage,
        "condition": name,
        "subset": subset,
        "operation": grid.operation if grid else "scale",
        "vectors": grid.vectors if grid else None,
        "scale": dose,
        "positions": positions,
        "sites": [term.site for term in terms],
        "intervention": sites.canonical_terms(terms),
    }
