"""Vectors from the baseline's own completions: read the sites there, keep the vectors with the run."""

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import groupby

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from safetensors.numpy import save

from raybt.config import BASELINE, Config
from raybt.config import Vectors as Recipe
from raybt.errors import Failure, UserError
from raybt.fleet.cluster import enter
from raybt.fleet.crew import Crew
from raybt.fleet.joining import beside, of_keys
from raybt.fleet.made import made_vectors, vector_file, wanted_vectors
from raybt.fleet.selection import Chosen
from raybt.fleet.standing import given, stand
from raybt.fleet.tasks import results
from raybt.fleet.wave import make_job, remove_tokens
from raybt.measure.contrast import matched_positions, sampled_positions, written_positions
from raybt.plan.rows import Plan
from raybt.plan.vectors import VectorSet, content_hash
from raybt.store.folder import RunFolder
from raybt.store.lock import locked
from raybt.store.schemas import GRADES, VECTORS
from raybt.store.shards import Done, read_completions

VECTORS_FILE = "vectors.parquet"
Spots = list[tuple[str, int]]  # (row key, token index into its completion)


def make_vectors(config: Config, address: str | None, console: Console | None) -> pa.Table:
    """Decode the baseline, then make and keep every set that is needed and not there yet; schema VECTORS.

    Raises:
        UserError: no stage uses vectors that raybt makes, or the baseline cannot be decoded whole.
        Failure: something broke on the way.
    """
    from raybt.fleet.course import Course, broken_named

    run_of = given(config)
    folder = run_of.folder
    with locked(folder), broken_named(folder), ExitStack() as stack:
        crew, baselines = Crew(config.replicas), Chosen(frozenset(), True)
        course = Course(run_of, address, console, lambda: enter(stack, address, config.replicas), crew, baselines)
        stack.callback(crew.dismiss)
        if not wanted_vectors(stand(run_of).plan.layout):
            raise UserError(
                "a grid or a scan must use vectors that raybt makes",
                "none does",
                "give a grid an operation and vectors",
            )
        standing, found = course.to_its_end()
        if course.cause:
            raise Failure(course.cause.line)
        if not baseline_done(standing.plan, found):
            rule, fix = "vectors are made from a whole baseline", "run the command again; raybt status says what failed"
            raise UserError(rule, "rows missing or failed", fix)
        return folder.read_table(VECTORS_FILE, VECTORS)


def make_missing(plan: Plan, folder: RunFolder, there: Done, crew: Crew) -> bool:
    """Make the sets that are needed and not there, once every baseline row is; whether any was made."""
    wanted, made = wanted_vectors(plan.layout), made_vectors(folder, plan.layout)
    missing = {name: sites for name, sites in wanted.items() if name not in made}
    if not missing or not baseline_done(plan, there):
        return False
    fresh = measure(plan, folder, there, missing, made, crew)
    for name, vectors in fresh.items():
        folder.commit(vector_file(name, plan.layout.vectors[name], missing[name]), save(vectors))
    keep_table(folder, made | fresh, wanted, plan.layout.vectors)
    return True


def baseline_done(plan: Plan, there: Done) -> bool:
    """Whether every baseline row has its completion: what failed would be missing from a mean without a word."""
    return set(baseline_keys(plan)) <= there.keys


def baseline_keys(plan: Plan) -> list[str]:
    return plan.rows.filter(pc.field("condition") == BASELINE)["key"].to_pylist()


def measure(
    plan: Plan,
    folder: RunFolder,
    there: Done,
    missing: dict[str, tuple[str, ...]],
    made: Mapping[str, VectorSet],
    crew: Crew,
) -> dict[str, VectorSet]:
    """The missing sets, from the baseline's completions. Assumes that they are judged."""
    recipes, shards = plan.layout.vectors, there.shards
    grades = of_keys((folder.read_table(beside(shard, "grades"), GRADES) for shard in shards), baseline_keys(plan))
    jobs = {name: _spots(recipes[name], grades.to_pandas()) for name in missing if recipes[name].kind != "random"}
    found: dict[str, VectorSet] = {}
    if jobs:
        texts = _texts(plan, read_completions(folder, shards), jobs)
        kinds = {name: recipes[name].kind for name in jobs}
        reader = crew.hire(1)[0]
        (found,) = results([reader.read_sites.remote(make_job(plan, folder), texts, jobs, missing, kinds)])
        remove_tokens(folder)
    for name, sites in missing.items():
        recipe = recipes[name]
        if recipe.kind == "random":
            assert recipe.like is not None
            like = found.get(recipe.like) or made[recipe.like]
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


def make_sets(
    anatomy, texts: dict, jobs: dict[str, tuple[Spots, Spots]], sites: dict[str, tuple[str, ...]], kinds: dict[str, str]
) -> dict[str, VectorSet]:
    """Every set, in a replica's process: name -> site -> vector, or table of vectors for `resample`."""
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
    """A direction drawn evenly from the sphere, as long as `vector`, or as the vectors of a table are on average."""
    words = [seed, *site.encode()]
    drawn = np.random.default_rng(words).standard_normal(vector.shape[-1])
    return (drawn / np.linalg.norm(drawn) * mean_norm(vector)).astype(np.float32)


def mean_norm(vector: np.ndarray) -> float:
    return float(np.linalg.norm(np.atleast_2d(vector), axis=1).mean())


def keep_table(
    folder: RunFolder,
    made: Mapping[str, VectorSet],
    wanted: Mapping[str, tuple[str, ...]],
    recipes: Mapping[str, Recipe],
) -> None:
    """What there is now, as vectors.parquet; schema VECTORS."""
    rows = [
        {
            "name": name,
            "site": site,
            "kind": recipes[name].kind,
            "rows": 1 if made[name][site].ndim == 1 else len(made[name][site]),
            "norm": mean_norm(made[name][site]),
            "hash": content_hash(made[name][site]),
        }
        for name, sites in wanted.items()
        if name in made
        for site in sites
    ]
    folder.commit_table(VECTORS_FILE, pa.Table.from_pylist(rows, schema=VECTORS), VECTORS)
