"""Vectors that interventions use: read, checked, and named by what is in them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from raybt.config import Grid
from raybt.config import Vectors as Recipe
from raybt.errors import UserError
from raybt.plan.layout import Layout
from raybt.plan.sites import order

VectorSet = dict[str, np.ndarray]  # site -> [width], or [n, width] for resample; float32


def content_hash(vector: np.ndarray) -> str:
    """What stands for a vector in a row's key: its shape and numbers, whatever its name or file."""
    data = np.ascontiguousarray(vector, dtype="<f4")
    return hashlib.blake2b(str(data.shape).encode() + data.tobytes(), digest_size=12).hexdigest()


def recipe_digest(recipe: Recipe, sites: tuple[str, ...]) -> str:
    """Names the file that a made set is kept in: another recipe, or more sites, is another file."""
    text = json.dumps([recipe.model_dump(mode="json"), list(sites)])
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def read_file(path: str) -> VectorSet:
    """A safetensors file whose tensors are named by site.

    Raises:
        UserError: it is missing or no such file.
    """
    try:
        tensors = load_tensors(Path(path).expanduser().read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError("a vectors file must be safetensors, float32, tensors named by site", f"{path} ({error})",
                        "save it with safetensors, for example {'mlp.19': vector}") from None  # fmt: skip
    return {site: np.asarray(tensor, dtype=np.float32) for site, tensor in tensors.items()}


def needed(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Set name -> the sites it is used at, by grids or measurements; with a set, the set whose norms it takes."""
    found: dict[str, set[str]] = {name: set(sites) for name, sites in layout.measured_at.items()}
    for grid in layout.grids:
        if grid.vectors is not None:
            used = (site for subset in grid.subsets for site in layout.subsets[subset])
            found.setdefault(grid.vectors, set()).update(used)
    for name in list(found):
        like = layout.vectors[name].like
        while like is not None:
            found.setdefault(like, set()).update(found[name])
            like = layout.vectors[like].like
    return {name: tuple(sorted(sites, key=order)) for name, sites in found.items()}


def vector_at(sets: Mapping[str, VectorSet], grid: Grid, site: str) -> np.ndarray:
    """The vector, or for `resample` the table of vectors, that a grid uses at a site.

    Raises:
        UserError: the set is not made yet, or has nothing of the right kind for the site.
    """
    name = grid.vectors
    assert name is not None, "only operations with vectors ask for one"
    if name not in sets:
        raise UserError("vectors must be made before rows that use them are planned", name, "run raybt vectors CONFIG")
    if site not in sets[name]:
        raise UserError(
            "a set of vectors must hold one for every site of the subsets it is used with",
            f"{name} has none for {site}; it has {', '.join(list(sets[name])[:6])}",
            "add it, or take the site out of the subset",
        )
    vector = sets[name][site]
    wanted = 2 if grid.operation == "resample" else 1
    if vector.ndim != wanted or not np.isfinite(vector).all() or not np.abs(vector).max() > 0:
        raise UserError(
            "a vector is finite, not all zero, and of shape [width]; resample takes a table [n, width]",
            f"{name} at {site} has shape {list(vector.shape)} for {grid.operation}",
            "give another set, or another operation",
        )
    return vector


def gather(layout: Layout, made: Mapping[str, VectorSet]) -> dict[str, VectorSet]:
    """Every set that is there: those in files, read, and those that were made.

    Raises:
        UserError: a file is missing or is no safetensors.
    """
    recipes = layout.vectors
    files = {name: read_file(recipe.path) for name, recipe in recipes.items() if recipe.path is not None}
    return {**files, **{name: made[name] for name in recipes if name in made}}


def bank_of(layout: Layout, vectors: Mapping[str, VectorSet]) -> dict[str, np.ndarray]:
    """Content hash -> vector, of every vector that a grid or a measurement uses."""
    used = [
        vector_at(vectors, grid, site)
        for grid in layout.grids
        if grid.vectors is not None
        for subset in grid.subsets
        for site in layout.subsets[subset]
    ]
    used += [vectors[name][site] for name, sites in layout.measured_at.items() for site in sites if name in vectors]
    return {content_hash(vector): vector for vector in used}
