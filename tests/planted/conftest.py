"""Whole studies of the planted models, one each, only to be read."""

from pathlib import Path

import pytest

from raybt.fleet.driver import run
from raybt.load import validate
from raybt.report import document
from tests.fleet.studies import Study
from tests.fleet.without_ray import without_ray
from tests.planted.models import entangle, plant_one, plant_two

SITES = [f"{kind}.*" for kind in ("attn", "mlp")]
SUBSETS = {
    "sites": {"each": SITES},
    "found": {"from": "scan", "top": 3},
    "ranked": {"cumulative": {"from": "scan", "top": 3}},
}
GRIDS = {
    "layers": {"subsets": ["sites"], "problems": "select"},  # shares its rows with the search
    "targeted": {"subsets": ["found"], "controls": 6},
    "cumulative": {"subsets": ["ranked"]},
}
SCAN = {"kind": "scan", "events": 40}
HEADS = {"kind": "scan", "events": 12, "sites": ["head.*.*"], "operations": ["zero"]}
SEARCH = {"kind": "search", "subsets": ["sites"], "scales": [0, 0.5], "rungs": 2, "margin": 0.1}
CONTINUATION = {"kind": "continuation", "subsets": ["found"], "scales": [0, 1], "events": 12, "draws": 2,
                "max_new_tokens": 8}  # fmt: skip


def study(model: Path, temperature: float, drawn: bool = False, **stages) -> Study:
    """75 problems: 30 to choose on, and 45 to confirm on, as a margin of 10 points needs at least 35."""
    config = validate({
        "name": f"study-of-{model.name}",
        "artifacts": str(model.parent),
        "model": {"name": str(model), "device": "cpu"},
        "problems": {"name": "raybt-toy", "limit": 75, "select": 0.4},
        "sampling": {"max_new_tokens": 64, "temperature": temperature},
        "interventions": {"subsets": SUBSETS, "grids": GRIDS},
        "stages": {"scan": SCAN, "continuation": CONTINUATION, "search": SEARCH} | stages,
        "replicas": {"count": 1, "slots": 64},
    })  # fmt: skip
    with without_ray(), pytest.MonkeyPatch.context() as patch:
        if not drawn:  # a report in words alone: its figures take longer than all the rest
            patch.setattr(document, "drawings", lambda results: {})
        return Study(run(config))


@pytest.fixture(scope="session")
def one(tmp_path_factory) -> Study:
    """Only `mlp.0` causes the onset."""
    model = plant_one(tmp_path_factory.mktemp("planted") / "one-model")
    return study(model, 0.2, lens={"kind": "lens", "events": 12}, heads=HEADS)


@pytest.fixture(scope="session")
def two(tmp_path_factory) -> Study:
    """`attn.0`, through its head 3, and `mlp.0` cause it together."""
    return study(plant_two(tmp_path_factory.mktemp("planted") / "two-model"), 0.2, heads=HEADS)


@pytest.fixture(scope="session")
def entangled(tmp_path_factory) -> Study:
    """It backtracks, and no site can be removed."""
    model = entangle(tmp_path_factory.mktemp("planted") / "entangled-model")
    return study(model, 0.7, drawn=True, scan=SCAN | {"operations": ["zero"]})
