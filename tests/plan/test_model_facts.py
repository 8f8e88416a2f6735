"""What planning knows of a model, and the fingerprint that stands for it in a key."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from raybt.config import Model
from raybt.errors import UserError
from raybt.plan import fingerprint as fingerprints
from raybt.plan import model_facts
from raybt.plan.fingerprint import fingerprint
from raybt.plan.model_facts import resolve_model
from tests.plan.models import model_folder


def settings_of(folder, **settings):
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_local_model_is_read(tmp_path):
    facts = resolve_model(Model(name=str(model_folder(tmp_path / "m", layers=28, context=4096))))
    assert (facts.n_layers, facts.context_length, facts.revision) == (28, 4096, None)
    assert facts.fingerprint.startswith("local:") and facts.path == str(tmp_path / "m")


def test_the_shipped_model_is_read():
    assert resolve_model(Model(name="raybt-toy")).n_layers == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"n_layer": 5, "n_head": 12, "n_positions": 99},
        {
            "text_config": {"num_hidden_layers": 5, "num_attention_heads": 2, "max_position_embeddings": 99},
            "model_type": "sees",
        },
    ],
)
def test_depth_and_context_go_by_several_names(tmp_path, settings):
    facts = resolve_model(Model(name=str(settings_of(model_folder(tmp_path / "m"), **settings))))
    assert (facts.n_layers, facts.context_length) == (5, 99)


def test_a_copy_elsewhere_has_the_same_fingerprint(tmp_path):
    first = model_folder(tmp_path / "a")
    shutil.copytree(first, tmp_path / "b")
    assert fingerprint(first) == fingerprint(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "counts"),
    [("model.safetensors", True), ("config.json", True), ("generation_config.json", True), ("README.md", False)],
)
def test_files_that_decide_tokens_are_in_the_fingerprint(tmp_path, name, counts):
    folder = model_folder(tmp_path / "m")
    before = fingerprint(folder)
    with (folder / name).open("a") as file:
        file.write(" ")
    assert (fingerprint(folder) != before) == counts


def test_a_changed_file_of_the_same_size_is_seen(tmp_path):
    folder = model_folder(tmp_path / "m")
    before = fingerprint(folder)
    (folder / "model.safetensors").write_bytes(b"STAND-IN WEIGHTS")
    assert fingerprint(folder) != before


def test_files_are_hashed_once(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "m")
    before = fingerprint(folder)
    monkeypatch.setattr(fingerprints, "_digest", lambda path: pytest.fail(f"hashed {path} again"))
    assert fingerprint(folder) == before


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 3}', '{"x": [1, 2]}'])
def test_a_corrupt_cache_costs_only_time(tmp_path, content):
    folder = model_folder(tmp_path / "m")
    before = fingerprint(folder)
    (tmp_path / "cache" / "raybt" / "fingerprints.json").write_text(content)
    assert fingerprint(folder) == before == fingerprint(folder)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fingerprint(model_folder(tmp_path / "m")).startswith("local:")


def without(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without("config.json"), "config.json"),
        (without("model.safetensors"), "weights"),
        (without("tokenizer.json"), "tokenizer"),
        (lambda folder: settings_of(folder, model_type="x"), "num_hidden_layers"),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path, spoil, says):
    folder = model_folder(tmp_path / "m")
    spoil(folder)
    with pytest.raises(UserError, match=says) as error:
        resolve_model(Model(name=str(folder)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["./none", "/none", "~/none", "a/b/c", "a b", ".."])
def test_a_name_that_can_only_be_a_folder_must_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        resolve_model(Model(name=name))


COMMIT = "c0ffee" * 6 + "c0ff"


def cached(root: Path, monkeypatch, branch: str = "main") -> None:
    """A hub cache that holds org/small at COMMIT."""
    home = root / "hub" / "models--org--small"
    model_folder(home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / branch).write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root / "hub"))
    for function in (model_facts.try_to_load_from_cache, model_facts.hf_hub_download):
        monkeypatch.setattr(model_facts, function.__name__, with_cache(function, str(root / "hub")))
    plain = model_facts.PreTrainedTokenizerFast.from_pretrained
    monkeypatch.setattr(model_facts.PreTrainedTokenizerFast, "from_pretrained", with_cache(plain, str(root / "hub")))


def with_cache(function, cache_dir):
    return lambda *args, **kwargs: function(*args, cache_dir=cache_dir, **kwargs)


def test_a_cached_hub_model_is_planned_without_a_network(tmp_path, monkeypatch):
    cached(tmp_path, monkeypatch)
    facts = resolve_model(Model(name="org/small"))
    assert (facts.path, facts.revision, facts.n_layers) == ("org/small", COMMIT, 6)
    assert facts.fingerprint == f"hub:org/small@{COMMIT}"


def test_the_hub_says_which_commit_a_revision_is(tmp_path, monkeypatch):
    cached(tmp_path, monkeypatch)
    monkeypatch.setattr(model_facts.HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))
    assert resolve_model(Model(name="org/small", revision="v1")).revision == COMMIT


def test_a_hub_model_out_of_reach_is_refused():
    with pytest.raises(UserError, match="hf download"):
        resolve_model(Model(name="org/no-such-model"))


def test_the_fingerprint_cache_is_not_in_the_home_of_these_tests(tmp_path):
    fingerprint(model_folder(tmp_path / "m"))
    assert os.listdir(tmp_path / "cache" / "raybt") == ["fingerprints.json"]
