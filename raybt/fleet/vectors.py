"""`raybt vectors`: decode the baseline, read the sites there, keep the vectors with the run."""

from collections.abc import Mapping
from itertools import groupby

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
from rich.console import Console
from safetensors.numpy import save

from raybt.config import BASELINE, Config
from raybt.config import Vectors as Recipe
from raybt.errors import UserError
from raybt.fleet.aggregate import beside
from raybt.fleet.cluster import connected, gpus_each
from raybt.fleet.driver import run
from raybt.fleet.made import made_vectors, vector_file
from raybt.fleet.wave import make_job, remove_tokens
from raybt.measure.contrast import matched_positions, sampled_positions, written_positions
from raybt.plan.conditions import expand_subsets
from raybt.plan.model_facts import resolve_model
from raybt.plan.rows import Plan, make_plan
from raybt.plan.vectors import VectorSet, content_hash, needed
from raybt.store.folder import RunFolder
from raybt.store.schemas import GRADES, VECTORS
from raybt.store.shards import done, read_completions

Spots = list[tuple[str, int]]  # (row key, token index into its completion)


def make_vectors(config: Config, address: str | None, console: Console | None) -> pa.Table:
    """Make and keep every set that the grids need and that is not there yet; schema VECTORS, of all sets needed.

    Raises:
        UserError: no grid uses vectors that raybt makes, or the baseline cannot be decoded whole.
    """
    facts = resolve_model(config.model)
    recipes, wanted = config.interventions.vectors, needed(config, expand_subsets(config, facts))
    wanted = {name: sites for name, sites in wanted.items() if recipes[name].kind != "file"}
    if not wanted:
        raise UserError("a grid must use vectors that raybt makes", "none does", "give a grid an operation and vectors")
    alone = without_made(config)
    outcome = run(alone, address, console)
    if outcome.missing or outcome.failed:
        raise UserError("vectors are made from a whole baseline", f"{outcome.missing + outcome.failed} rows missing or "
                        "failed", "run the command again; raybt status says what failed")  # fmt: skip
    folder, plan = RunFolder(outcome.root), make_plan(alone, facts)
    made = made_vectors(config)
    missing = {name: sites for name, sites in wanted.items() if name not in made}
    if missing:
        fresh = measure(plan, folder, recipes, missing, address)
        for name, vectors in fresh.items():
            folder.commit(vector_file(name, recipes[name], missing[name]), save(vectors))
        made |= fresh
    return keep_table(folder, made, wanted, recipes)


def without_made(config: Config) -> Config:
    """The config without the grids that wait for vectors: the baseline, and what can run beside it."""
    recipes, interventions = config.interventions.vectors, config.interventions
    ready = {
        name: grid
        for name, grid in interventions.grids.items()
        if grid.vectors is None or recipes[grid.vectors].kind == "file"
    }
    return config.model_copy(update={"interventions": interventions.model_copy(update={"grids": ready})})


def measure(
    plan: Plan,
    folder: RunFolder,
    recipes: Mapping[str, Recipe],
    missing: dict[str, tuple[str, ...]],
    address: str | None,
) -> dict[str, VectorSet]:
    """The missing sets, from the baseline's completions."""
    shards = done(folder).shards
    grades = pd.concat([folder.read_table(beside(shard, "grades"), GRADES).to_pandas() for shard in shards])
    rows = plan.rows.to_pandas()
    grades = grades.loc[grades["key"].isin(set(rows["key"][rows["condition"] == BASELINE]))]
    jobs = {name: _spots(recipes[name], grades) for name in missing if recipes[name].kind != "random"}
    with connected(address, plan.config.replicas):
        texts = _texts(plan, read_completions(folder, shards), jobs)
        reader = read_sites.options(num_cpus=plan.config.replicas.cpus, num_gpus=gpus_each(plan.config.replicas) or 0)
        kinds = {name: recipes[name].kind for name in jobs}
        found = ray.get(reader.remote(make_job(plan, folder), texts, jobs, missing, kinds))
        remove_tokens(folder)
    for name, sites in missing.items():
        recipe = recipes[name]
        if recipe.kind == "random":
            assert recipe.like is not None
            like = found.get(recipe.like) or made_vectors(plan.config)[recipe.like]
            found[name] = {site: random_like(like[site], recipe.seed, site) for site in sites}
    return found


def _spots(recipe: Recipe, grades: pd.DataFrame) -> tuple[Spots, Spots]:
    """Positions that a set is made from, and the controls' where it has some."""
    if recipe.kind == "mean":
        return written_positions(grades), []
    if recipe.kind == "resample":
        return sampled_positions(grades, recipe.rows, recipe.seed), []
    matched = matched_positions(grades, recipe.window, recipe.seed)
    if not matched.onsets:
        raise UserError(
            "a difference of means needs onsets, and completions without any that are as long",
            f"{int(grades['onset_strict'].sum())} onsets in {len(grades)} completions, {matched.unmatched} unmatched",
            "take more problems or samples",
        )
    return matched.onsets, matched.controls


def _texts(
    plan: Plan, completions: pa.Table, jobs: Mapping[str, tuple[Spots, Spots]]
) -> dict[str, tuple[list[int], int]]:
    """Row key -> (prompt and completion, prompt's length), of the rows in use."""
    used = {key for pair in jobs.values() for spots in pair for key, _ in spots}
    prompts = plan.prompts["token_ids"].to_pylist()
    prompt_of = dict(zip(plan.work["key"].to_pylist(), plan.work["prompt"].to_pylist(), strict=True))
    written = zip(completions["key"].to_pylist(), completions["token_ids"].to_pylist(), strict=True)
    return {key: (prompts[prompt_of[key]] + ids, len(prompts[prompt_of[key]])) for key, ids in written if key in used}


@ray.remote(max_retries=2)
def read_sites(
    job, texts: dict, jobs: dict[str, tuple[Spots, Spots]], sites: dict[str, tuple[str, ...]], kinds: dict[str, str]
) -> dict[str, VectorSet]:
    """Load the model once and make every set: name -> site -> vector, or table of vectors for `resample`."""
    from raybt.fleet.replica import load_anatomy

    anatomy = load_anatomy(job)
    return {name: _make(anatomy, texts, *jobs[name], sites[name], kinds[name]) for name in jobs}


def _make(anatomy, texts: dict, spots: Spots, controls: Spots, sites: tuple[str, ...], kind: str) -> VectorSet:
    if kind == "resample":
        parts = list(_read(anatomy, texts, spots, sites))
        return {site: np.concatenate([part[site] for part in parts]) for site in sites}
    if kind == "difference":
        here, there = (_mean(anatomy, texts, part, sites) for part in (spots, controls))
        return {site: (here[site] - there[site]).astype(np.float32) for site in sites}
    return {site: mean.astype(np.float32) for site, mean in _mean(anatomy, texts, spots, sites).items()}


def _mean(anatomy, texts: dict, spots: Spots, sites: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Mean output of each site over the positions, summed in float64 in the keys' order."""
    total = {site: np.float64(0) for site in sites}
    for read in _read(anatomy, texts, spots, sites):
        for site in sites:
            total[site] = total[site] + read[site].sum(0, dtype=np.float64)
    return {site: np.asarray(total[site]) / len(spots) for site in sites}


def _read(anatomy, texts: dict, spots: Spots, sites: tuple[str, ...]):
    from raybt.engine.vectors import outputs_at

    ordered = sorted(spots)
    passes = [
        (texts[key][0], [texts[key][1] + index for _, index in group])
        for key, group in groupby(ordered, key=lambda spot: spot[0])
    ]
    yield from outputs_at(anatomy, sites, passes)


def random_like(vector: np.ndarray, seed: int, site: str) -> np.ndarray:
    """A direction drawn evenly from the sphere, as long as `vector`."""
    words = [seed, *site.encode()]
    drawn = np.random.default_rng(words).standard_normal(vector.shape[-1])
    return (drawn / np.linalg.norm(drawn) * np.linalg.norm(vector)).astype(np.float32)


def keep_table(
    folder: RunFolder,
    made: Mapping[str, VectorSet],
    wanted: Mapping[str, tuple[str, ...]],
    recipes: Mapping[str, Recipe],
) -> pa.Table:
    """What there is now, as vectors.parquet; schema VECTORS."""
    rows = [
        {
            "name": name,
            "site": site,
            "kind": recipes[name].kind,
            "rows": 1 if made[name][site].ndim == 1 else len(made[name][site]),
            "norm": float(np.linalg.norm(np.atleast_2d(made[name][site]), axis=1).mean()),
            "hash": content_hash(made[name][site]),
        }
        for name, sites in wanted.items()
        for site in sites
    ]
    table = pa.Table.from_pylist(rows, schema=VECTORS)
    folder.commit_table("vectors.parquet", table, VECTORS)
    return table
