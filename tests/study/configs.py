"""A small study's config, and the model facts it needs, for tests of pure functions."""

from types import SimpleNamespace

from raybt.load import validate
from raybt.plan.model_facts import resolve_model
from raybt.plan.problems import load_problems

SIX = SimpleNamespace(n_layers=6, n_heads=4)
SUBSETS = {
    "fixed": ["mlp.2"],
    "found": {"from": "scan", "top": 2},
    "mixed": ["attn.1", {"from": "scan", "top": 1, "kinds": ["mlp"]}],
    "layers": {"each": ["mlp.0-2"]},
    "best": {"cumulative": {"from": "scan", "top": 3}},
}


def study(stages=None, grids=None, **sections):
    """The shipped model with the subsets above; keyword arguments replace whole sections."""
    values = {
        "name": "study",
        "model": {"name": "raybt-toy"},
        "problems": {"name": "raybt-toy", "limit": 12},
        "sampling": {"samples": 2, "max_new_tokens": 40},
        "interventions": {"subsets": SUBSETS, "grids": grids or {}},
        "stages": {"scan": {"kind": "scan"}} | (stages or {}),
    }
    return validate(values | sections)


def ids(config):
    return [problem.id for problem in load_problems(config.problems)]


def facts(config):
    return resolve_model(config.model)
