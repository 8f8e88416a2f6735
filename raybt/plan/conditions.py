"""Layout -> conditions: each stage's baseline, then its subsets x scales or strengths."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raybt.config import BASELINE, Config, Grid
from raybt.plan import sites
from raybt.plan.layout import Layout, Part, plain_layout
from raybt.plan.model_facts import ModelFacts
from raybt.plan.vectors import VectorSet, content_hash, vector_at
from raybt.store.schemas import CONDITIONS

Vectors = Mapping[str, VectorSet]


def plan_conditions(
    config: Config, facts: ModelFacts, vectors: Vectors | None = None, layout: Layout | None = None
) -> pa.Table:
    """Conditions of every stage, the baseline first in each; schema CONDITIONS.

    Args:
        vectors: set name -> site -> vector, of the sets that are there.
        layout: None takes the config's grids whose subsets it spells out.

    Raises:
        UserError: a subset names a site that the model does not have, or a vector is missing or unfit.
    """
    layout = layout or plain_layout(config, facts)
    rows: list[dict[str, Any]] = []
    begun: set[str] = set()
    for part in layout.parts:
        positions = positions_of(part.grid, config, facts)
        if part.stage not in begun:
            rows.append(_baseline(part.stage, positions))
        begun.add(part.stage)
        rows += _conditions(part, layout, vectors or {}, positions)
    return pa.Table.from_pylist(rows, schema=CONDITIONS)


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


def condition_name(subset: str, scale: float) -> str:
    """`subset@scale` with the shortest number that reads back as the same scale."""
    short = f"{scale + 0.0:g}"
    return f"{subset}@{short if float(short) == scale else repr(scale)}"


def _baseline(stage: str, positions: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "condition": BASELINE,
        "role": BASELINE,
        "control_of": None,
        "subset": BASELINE,
        "operation": "scale",
        "vectors": None,
        "scale": sites.NO_CHANGE,
        "positions": positions,
        "sites": [],
        "intervention": sites.EMPTY,
    }


def _conditions(part: Part, layout: Layout, vectors: Vectors, positions: str) -> Iterator[dict[str, Any]]:
    grid = part.grid
    if grid is None:
        return
    for subset in grid.subsets:
        for dose in grid.doses:
            named = layout.subsets[subset]
            terms = [sites.Term(site, grid.operation, dose, _hash(grid, site, vectors)) for site in named]
            yield {
                "stage": part.stage,
                "condition": _name(grid, subset, dose),
                "role": part.role,
                "control_of": _control_of(part, dose),
                "subset": subset,
                "operation": grid.operation,
                "vectors": grid.vectors,
                "scale": dose,
                "positions": positions,
                "sites": list(named),
                "intervention": sites.canonical_terms(terms),
            }


def _control_of(part: Part, dose: float) -> str | None:
    return None if part.of is None else condition_name(part.of, dose if part.of_dose is None else part.of_dose)


def _hash(grid: Grid, site: str, vectors: Vectors) -> str | None:
    return None if grid.vectors is None else content_hash(vector_at(vectors, grid, site))


def _name(grid: Grid, subset: str, dose: float) -> str:
    """`late@0.5`; with vectors `late+add:onset@4`."""
    if grid.operation in ("scale", "zero"):
        return condition_name(subset, dose)
    return condition_name(f"{subset}+{grid.operation}:{grid.vectors}", dose)
