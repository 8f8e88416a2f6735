"""The sets of vectors that a run's folder holds."""

from safetensors.numpy import load

from raybt.config import Vectors as Recipe
from raybt.plan.layout import Layout
from raybt.plan.vectors import VectorSet, needed, recipe_digest
from raybt.store.folder import RunFolder


def vector_file(name: str, recipe: Recipe, sites: tuple[str, ...]) -> str:
    return f"vectors/{name}-{recipe_digest(recipe, sites)}.safetensors"


def wanted_vectors(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Set name -> sites, of the sets that the layout needs and raybt makes."""
    return {name: sites for name, sites in needed(layout).items() if layout.vectors[name].kind != "file"}


def made_vectors(folder: RunFolder, layout: Layout) -> dict[str, VectorSet]:
    """Those of the wanted sets that the folder holds."""
    wanted = wanted_vectors(layout)
    files = {name: vector_file(name, layout.vectors[name], sites) for name, sites in wanted.items()}
    return {name: load(folder.read(file)) for name, file in files.items() if folder.exists(file)}
