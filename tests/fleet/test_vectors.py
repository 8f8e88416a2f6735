"""`raybt vectors`, then a run that uses what it made: real Ray, the shipped model."""

import numpy as np
import pytest

from raybt.fleet.standing import given, stand
from raybt.fleet.vectors import make_vectors, mean_norm, random_like
from raybt.plan.sites import parse_canonical
from raybt.store.folder import RunFolder
from raybt.store.schemas import CONDITION_TABLE
from raybt.store.shards import done, read_completions
from tests.fleet.conftest import small_config
from tests.fleet.without_ray import run_here, without_ray

INTERVENTIONS = {
    "subsets": {"stream": ["resid.3"], "some": ["mlp.4", "head.4.1"]},
    "vectors": {
        "onset": {"kind": "difference"},
        "control": {"kind": "random", "like": "onset"},
        "means": {"kind": "mean"},
        "donors": {"kind": "resample", "rows": 32},
    },
    "grids": {
        "steer": {"subsets": ["stream"], "operation": "add", "vectors": "onset", "strengths": [0.5]},
        "control": {"subsets": ["stream"], "operation": "clamp", "vectors": "control", "strengths": [1.0]},
        "erase": {"subsets": ["stream"], "operation": "project_out", "vectors": "onset", "positions": "all"},
        "means": {"subsets": ["some"], "operation": "mean", "vectors": "means"},
        "donors": {"subsets": ["some"], "operation": "resample", "vectors": "donors", "positions": "prompt"},
        "waits": {"subsets": ["some"], "operation": "zero", "positions": "after_trigger", "window": [0, 4]},
    },
}
NEEDS = {"steer": "onset", "control": "control", "erase": "onset", "means": "means", "donors": "donors"}


@pytest.fixture(scope="module")
def made(local_ray, tmp_path_factory):
    config = small_config(
        tmp_path_factory.mktemp("vectors"),
        name="steered",
        interventions=INTERVENTIONS,
        sampling={"samples": 2, "max_new_tokens": 120, "temperature": 0.7},
    )
    waiting = stand(given(config)).plan.layout.waiting
    assert waiting == {name: f"the vectors {vectors}" for name, vectors in NEEDS.items()}
    return config, make_vectors(config, None, None).to_pylist()


def test_sets_hold_a_vector_for_every_site_and_controls_are_as_long(made):
    config, table = made
    named = {(row["name"], row["site"]): row for row in table}
    stream, some = ["resid.3"], ["mlp.4", "head.4.1"]
    sites = {"onset": stream, "control": stream, "means": some, "donors": some}
    assert set(named) == {(name, site) for name in sites for site in sites[name]}
    assert named["control", "resid.3"]["norm"] == pytest.approx(named["onset", "resid.3"]["norm"], rel=1e-5)
    assert named["donors", "mlp.4"]["rows"] == 32 and named["means", "mlp.4"]["rows"] == 1
    vectors = stand(given(config)).vectors
    assert vectors["means"]["head.4.1"].shape == (32,) and vectors["donors"]["mlp.4"].shape == (32, 128)


def test_making_them_again_makes_the_same(made):
    config, table = made
    folder = RunFolder(f"{config.artifacts}/{config.name}")
    for name, _ in folder.list("vectors"):
        folder.remove(name)
    with without_ray():
        again = make_vectors(config, None, None).to_pylist()
    assert [row["hash"] for row in again] == [row["hash"] for row in table]


def test_a_run_uses_them_and_every_receipt_is_as_its_positions_demand(made):
    config, _ = made
    outcome = run_here(config)
    assert outcome.missing == outcome.failed == 0
    folder = RunFolder(outcome.root)
    table = folder.read_table("tables/conditions.parquet", CONDITION_TABLE).to_pandas()
    assert set(table["operation"]) == {"scale", "add", "clamp", "project_out", "mean", "resample", "zero"}
    receipts = read_completions(folder, done(folder).shards)["receipt"].to_pylist()
    touched = {entry["site"] for receipt in receipts for entry in receipt}
    assert touched == {"resid.3", "mlp.4", "head.4.1"}
    plan = stand(given(config)).plan
    assert not plan.layout.waiting
    hashes = {term.vector for text in plan.work["intervention"].to_pylist() for term in parse_canonical(text)} - {None}
    assert hashes == set(plan.bank) and len(hashes) == 6


def test_a_random_direction_is_its_seeds_and_sites_own():
    like = np.arange(1, 65, dtype=np.float32)
    one, other, elsewhere = random_like(like, 0, "mlp.1"), random_like(like, 1, "mlp.1"), random_like(like, 0, "mlp.2")
    assert np.array_equal(one, random_like(like, 0, "mlp.1"))
    assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(like))
    table = np.stack([like, 3 * like])
    assert np.linalg.norm(random_like(table, 0, "mlp.1")) == pytest.approx(2 * mean_norm(like), rel=1e-5)
    assert abs(one @ other) < 0.6 * (like @ like) and abs(one @ elsewhere) < 0.6 * (like @ like)
