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
from raybt.plan import model_facts, model_files
from raybt.plan.fingerprint import fingerprint
from raybt.plan.model_facts import resolve_model
from tests.plan.models import model_folder, write_settings


def test_a_local_model_is_read(tmp_path):
    facts = resolve_model(Model(name=str(model_folder(tmp_path / "m", layers=28, context=4096))))
    assert (facts.n_layers, facts.context_length, facts.revision) == (28, 4096, None)
    assert facts.fingerprint.startswith("local:") and facts.path == str(tmp_path / "m")


def test_the_shipped_model_is_read():
    assert resolve_model(Model(name="raybt-toy")).n_layers == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "gpt2", "n_layer": 5, "n_head": 12, "n_positions": 99},
        {
            "text_config": {"num_hidden_layers": 5, "num_attention_heads": 2, "max_position_embeddings": 99},
            "model_type": "gemma3",
        },
    ],
)
def test_depth_and_context_go_by_several_names(tmp_path, settings):
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(settings))
    facts = resolve_model(Model(name=str(folder)))
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
        (lambda folder: write_settings(folder, model_type=None), "model_type"),
        (lambda folder: write_settings(folder, max_position_embeddings=[1]), "max_position_embeddings"),
        (lambda folder: (folder / "generation_config.json").write_text("{"), "generation_config"),
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


def slow(folder, *names):
    """A folder whose tokenizer is in files of other names."""
    (folder / "tokenizer.json").unlink()
    for name in names:
        (folder / name).write_text("")
    with pytest.raises(UserError, match="fast tokenizer") as error:
        resolve_model(Model(name=str(folder)))
    return error.value


def test_what_there_is_instead_of_a_fast_tokenizer_is_named_with_what_makes_one(tmp_path):
    error = slow(model_folder(tmp_path / "a"), "vocab.json", "merges.txt")
    assert error.value == f"{tmp_path / 'a'} with vocab.json and merges.txt alone"
    assert f'AutoTokenizer.from_pretrained("{tmp_path / "a"}").save_pretrained("{tmp_path / "a"}")' in error.fix
    assert "pip install sentencepiece" in slow(model_folder(tmp_path / "b"), "tokenizer.model").fix
    assert "fetch its tokenizer.json" in slow(model_folder(tmp_path / "c")).fix


def test_the_way_to_make_a_fast_tokenizer_works(tmp_path):
    from transformers import AutoTokenizer

    folder = model_folder(tmp_path / "m")
    ids = resolve_model(Model(name=str(folder))).tokenizer("1 + 1?")["input_ids"]
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    slow(folder, "merges.txt")
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert resolve_model(Model(name=str(folder))).tokenizer("1 + 1?")["input_ids"] == ids[1:]  # Qwen2's adds no BOS


@pytest.mark.parametrize(
    ("settings", "generation", "ends"),
    [
        ({"eos_token_id": 257}, None, True),
        ({"eos_token_id": 258}, None, False),
        ({"eos_token_id": 258}, {"eos_token_id": [258, 1]}, True),
        ({"eos_token_id": 1}, {"eos_token_id": [258, 300]}, False),
        ({"eos_token_id": 258}, {"temperature": 0.6}, False),
        ({}, {}, True),
    ],
)
def test_a_model_that_cannot_write_its_last_token_is_refused(tmp_path, settings, generation, ends):
    folder = write_settings(model_folder(tmp_path / "m"), **settings)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    if ends:
        assert resolve_model(Model(name=str(folder))).vocab_size == 258
        return
    with pytest.raises(UserError, match=r"below 258; got .* with eos_token_id 258.*Fix: correct eos_token_id"):
        resolve_model(Model(name=str(folder)))


COMMIT = "c0ffee" * 6 + "c0ff"


def cached(root: Path, monkeypatch, branch: str = "main") -> Path:
    """A hub cache that holds org/small at COMMIT: the folder of its files."""
    home = root / "hub" / "models--org--small"
    folder = model_folder(home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / branch).write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root / "hub"))
    for function in (model_files.try_to_load_from_cache, model_files.hf_hub_download):
        monkeypatch.setattr(model_files, function.__name__, with_cache(function, str(root / "hub")))
    plain = model_facts.PreTrainedTokenizerFast.from_pretrained
    monkeypatch.setattr(model_facts.PreTrainedTokenizerFast, "from_pretrained", with_cache(plain, str(root / "hub")))
    return folder


def with_cache(function, cache_dir):
    return lambda *args, **kwargs: function(*args, cache_dir=cache_dir, **kwargs)


def online(folder: Path, monkeypatch, *more: str) -> None:
    """The hub answers with the names of the files in a folder, and more."""
    names = [*(path.name for path in folder.iterdir()), *more]
    info = SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(model_files.HfApi, "model_info", lambda *_, **__: info)


def test_a_cached_hub_model_is_planned_without_a_network(tmp_path, monkeypatch):
    cached(tmp_path, monkeypatch)
    facts = resolve_model(Model(name="org/small"))
    assert (facts.path, facts.revision, facts.n_layers) == ("org/small", COMMIT, 6)
    assert facts.fingerprint == f"hub:org/small@{COMMIT}"


def test_offline_what_is_not_in_the_cache_is_not_asked_for(tmp_path, monkeypatch):
    (cached(tmp_path, monkeypatch) / "model.safetensors").unlink()  # it may be on the replicas' machines
    assert resolve_model(Model(name="org/small")).n_layers == 6


def test_the_hub_says_which_commit_a_revision_is(tmp_path, monkeypatch):
    online(cached(tmp_path, monkeypatch), monkeypatch)
    assert resolve_model(Model(name="org/small", revision="v1")).revision == COMMIT


@pytest.mark.parametrize(
    ("gone", "more", "says"),
    [
        (["model.safetensors"], ["tiny.gguf", "README.md"], r"org/small with tiny\.gguf alone"),
        (["model.safetensors", "config.json"], ["adapter_config.json"], "org/small, an adapter of org/base"),
        (["model.safetensors"], ["original/model.safetensors"], "holds weights.*none in org/small"),
        (["model.safetensors"], ["consolidated.safetensors"], "neither in org/small, which has consolidated"),
        (["config.json"], [], "config.json; got none in org/small"),
        (["tokenizer.json"], ["tokenizer.model"], r"org/small with tokenizer\.model alone.*download of the model"),
    ],
)
def test_a_hub_repositorys_listing_is_judged_as_a_folders_is(tmp_path, monkeypatch, gone, more, says):
    folder = cached(tmp_path, monkeypatch)
    for name in gone:
        (folder / name).unlink()
    if "adapter_config.json" in more:
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    online(folder, monkeypatch, *more)
    with pytest.raises(UserError, match=says):
        resolve_model(Model(name="org/small"))


def test_a_hub_model_out_of_reach_is_refused():
    with pytest.raises(UserError, match="hf download"):
        resolve_model(Model(name="org/no-such-model"))


def test_the_fingerprint_cache_is_not_in_the_home_of_these_tests(tmp_path):
    fingerprint(model_folder(tmp_path / "m"))
    assert os.listdir(tmp_path / "cache" / "raybt") == ["fingerprints.json"]
