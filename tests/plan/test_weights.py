"""Weight files that are there and whole, and those that are not; no weight is read."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from raybt.config import Model
from raybt.errors import UserError
from raybt.plan import weights
from raybt.plan.model_facts import resolve_model
from tests.plan.models import model_folder, write_settings, write_weights

PARTS = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]


@pytest.fixture
def folder(tmp_path):
    return model_folder(tmp_path / "m")


def taken(folder) -> bool:
    return resolve_model(Model(name=str(folder))).n_layers == 6


def refused(folder) -> UserError:
    with pytest.raises(UserError) as error:
        resolve_model(Model(name=str(folder)))
    assert "\n" not in str(error.value)
    return error.value


def split(folder, kind="safetensors"):
    """The weights as two files with an index."""
    (folder / "model.safetensors").unlink()
    named = [part.replace("safetensors", kind) for part in PARTS]
    stem = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    for part in named:
        write_weights(folder / part) if kind == "safetensors" else (folder / part).write_bytes(b"PK")
    index = {"weight_map": {"a": named[0], "b": named[1], "c": named[0]}}
    (folder / f"{stem}.index.json").write_text(json.dumps(index))
    return folder


def test_split_weights_are_taken_when_all_are_there(folder):
    assert taken(split(folder))


def test_a_missing_part_is_named(folder):
    (split(folder) / PARTS[1]).unlink()
    error = refused(folder)
    assert "model.safetensors.index.json" in error.rule and error.value == f"{folder} without {PARTS[1]}"
    assert "fetch" in error.fix


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 1}', "{}"])
def test_a_broken_index_is_named(folder, content):
    (split(folder) / "model.safetensors.index.json").write_text(content)
    error = refused(folder)
    assert "weight_map" in error.rule and str(error.value).endswith("index.json") and "again" in error.fix


def test_parts_without_an_index_are_refused(folder):
    (split(folder) / "model.safetensors.index.json").unlink()
    error = refused(folder)
    assert "index" in error.rule and PARTS[0] in error.value and "save_pretrained" in error.fix


def test_an_index_beside_whole_weights_is_not_read(folder):
    (folder / "model.safetensors.index.json").write_text("{")
    assert taken(folder)


def test_pickles_alone_are_taken_for_transformers_loads_them(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert taken(folder)


def test_weights_of_another_name_are_taken_where_the_config_names_them(folder):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    assert "mine.safetensors" in refused(folder).value
    assert taken(write_settings(folder, transformers_weights="mine.safetensors"))
    (folder / "mine.safetensors").rename(folder / "other.safetensors")
    assert "mine.safetensors" in refused(folder).value


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("left", [1, 20, 60, -1])
def test_a_file_cut_short_is_refused(folder, left):
    path = folder / "model.safetensors"
    size = path.stat().st_size
    cut(path, left % size)
    error = refused(folder)
    assert str(path) in str(error.value) and "again" in error.fix
    assert left == 1 or f"{left % size} bytes of" in error.value


@pytest.mark.parametrize(
    "content", [b"", b"nonsense that is longer", b"\x02" + bytes(7) + b"[]", b"\x08" + bytes(7) + b'{"a": 1}']
)
def test_a_file_of_something_else_is_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    error = refused(folder)
    assert "must be one" in error.rule and error.value == folder / "model.safetensors"


def test_every_file_that_safetensors_writes_is_whole(folder):
    tensors = {"a": np.zeros((3, 5), np.float16), "b": np.zeros(0, np.int8), "c": np.ones(7)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert taken(folder)
    save_file({}, folder / "model.safetensors")
    assert taken(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(folder):
    (folder / "model.safetensors").chmod(0)
    assert "rights" in refused(folder).fix


# ---- adapters and GGUF ----


def adapter(folder, base="org/base"):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"}))
    write_weights(folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("gone", [["config.json", "model.safetensors"], ["model.safetensors"]])
def test_an_adapter_is_refused_with_its_base_named(folder, gone):
    for name in gone:
        (folder / name).unlink()
    error = refused(adapter(folder))
    assert "adapter" in error.rule and "org/base" in error.value and "merge_and_unload" in error.fix


def test_an_adapters_config_that_is_broken_is_an_adapters_still(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("[")
    assert "does not name" in refused(folder).value


def test_an_adapter_beside_whole_weights_counts_where_peft_would_apply_it(folder, monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert taken(adapter(folder))
    monkeypatch.setattr(weights, "find_spec", lambda name: name)
    assert "org/base" in refused(folder).value


def test_gguf_alone_is_refused_and_beside_safetensors_is_not(folder):
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    assert taken(folder)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    error = refused(folder)
    assert "safetensors" in error.rule and "model-Q4_K_M.gguf alone" in error.value
    assert 'gguf_file="model-Q4_K_M.gguf"' in error.fix and "dequantize=True" in error.fix
