"""The sets of vectors that a run's folder holds."""

from safetensors.numpy import load

from raybt.config import Config
from raybt.config import Vectors as Recipe
from raybt.plan.conditions import expand_subsets
from raybt.plan.model_facts import resolve_model
from raybt.plan.vectors import VectorSet, needed, recipe_digest
from raybt.store.folder import RunFolder, run_root


def vector_file(name: str, recipe: Recipe, sites: tuple[str, ...]) -> str:
    return f"vectors/{name}-{recipe_digest(recipe, sites)}.safetensors"


def made_vectors(config: Config) -> dict[str, VectorSet]:
    """The sets that the run's folder holds, of those that the config's grids need."""
    if not config.interventions.vectors:
        return {}
    folder = RunFolder(run_root(config.artifacts, config.name))
    wanted = needed(config, expand_subsets(config, resolve_model(config.model)))
    files = {name: vector_file(name, config.interventions.vectors[name], sites) for name, sites in wanted.items()}
    return {name: load(folder.read(file)) for name, file in files.items() if folder.exists(file)}
