"""One local Ray for all tests of the fleet, on loopback, and small runs of the shipped model."""

import shutil
from pathlib import Path

import pytest

from raybt.config import Config, Replicas
from raybt.fleet import driver
from raybt.fleet.cluster import connected, quiet
from raybt.fleet.driver import run
from raybt.load import validate
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS
from raybt.store.shards import done, read_completions


@pytest.fixture(scope="session")
def local_ray():
    """A private Ray with room for two replicas; every run in this process uses it."""
    with connected(None, Replicas(count=2, cpus=1)):
        quiet()
        yield


def small_config(artifacts, name="small", **sections) -> Config:
    """A small grid on the shipped model; keyword arguments replace whole sections."""
    values = {
        "name": name,
        "artifacts": str(artifacts),
        "model": {"name": "raybt-toy", "device": "cpu"},
        "problems": {"name": "raybt-toy", "limit": 4},
        "sampling": {"samples": 2, "max_new_tokens": 80},
        "interventions": {
            "subsets": {"mlp_3": ["mlp.3"], "attn_4": ["attn.4"]},
            "grids": {"sweep": {"subsets": ["mlp_3", "attn_4"], "scales": [0, 0.5]}},
        },
        "replicas": {"count": 1, "slots": 32},
    }
    return validate(values | sections)


@pytest.fixture
def make_config(tmp_path):
    return lambda *args, **sections: small_config(tmp_path, *args, **sections)


@pytest.fixture(scope="session")
def finished(local_ray, tmp_path_factory):
    """The outcome of one finished small run, only to be read."""
    return run(small_config(tmp_path_factory.mktemp("finished")))


@pytest.fixture
def unpublished(monkeypatch):
    """No run of the test draws a report, which takes longer than the rest."""
    monkeypatch.setattr(driver, "publish", lambda folder: None)


@pytest.fixture
def completions():
    """Run root -> key -> token ids of everything committed; a key that stands twice fails."""

    def read(root) -> dict[str, list[int]]:
        folder = RunFolder(str(root))
        table = read_completions(folder, done(folder).shards)
        assert table.schema.equals(COMPLETIONS)
        keys = table["key"].to_pylist()
        assert len(set(keys)) == len(keys)
        return dict(zip(keys, table["token_ids"].to_pylist(), strict=True))

    return read


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished.root, tmp_path / "small"))
