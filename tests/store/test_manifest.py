"""The manifest: written last, and never loses a change."""

import pytest

from raybt.errors import UserError
from raybt.store.folder import RunFolder
from raybt.store.manifest import (
    PLAN_TABLES,
    ModelEntry,
    begin,
    finish_attempt,
    open_existing,
    read_config_yaml,
    read_manifest,
    record_attempt,
    record_change,
    record_set_aside,
    update_plan,
)  # fmt: skip

MODEL = ModelEntry(name="raybt-toy", path="/models/toy", revision=None, fingerprint="local:1")
TABLES = {name: schema.empty_table() for name, schema in PLAN_TABLES.items()}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(str(tmp_path / "run"))


def test_a_run_begins_with_its_manifest_last(folder, monkeypatch):
    names = []
    plain = RunFolder.commit
    monkeypatch.setattr(RunFolder, "commit", lambda self, name, data: (names.append(name), plain(self, name, data))[1])
    begin(folder, "small", MODEL, "name: small\n", TABLES)
    assert names[-1] == "manifest.json" and set(names) == {*TABLES, "config.yaml", "manifest.json"}


def test_a_begun_run_reads_back(folder):
    assert read_manifest(folder) is None
    written = begin(folder, "small", MODEL, "name: small\n", TABLES)
    assert read_manifest(folder) == written and read_config_yaml(folder) == "name: small\n"
    assert open_existing(folder.root).root == folder.root


def test_a_folder_without_a_manifest_is_no_run(folder):
    folder.commit("config.yaml", b"name: small\n")
    with pytest.raises(UserError, match="manifest"):
        open_existing(folder.root)


def test_what_happens_is_logged(folder):
    begin(folder, "small", MODEL, "", TABLES)
    number = record_attempt(folder, {"command": "raybt run"})
    record_set_aside(folder, [("completions/b-000.parquet", "torn")])
    record_change(folder, ["seed: 1 -> 2"])
    finish_attempt(folder, number, {"rows": 3})
    manifest = read_manifest(folder)
    assert manifest is not None
    assert {"command", "rows", "started", "ended"} <= manifest.attempts[0].keys() and number == 0
    assert manifest.set_aside[0]["file"] == "completions/b-000.parquet"
    assert "seed: 1 -> 2" in str(manifest.config_changes)


def test_a_change_is_logged_before_the_config_that_holds_it(folder, monkeypatch):
    begin(folder, "small", MODEL, "old", TABLES)
    plain = RunFolder.commit

    def killed_at_config(self, name, data):
        if name == "config.yaml":
            raise KeyboardInterrupt
        plain(self, name, data)

    monkeypatch.setattr(RunFolder, "commit", killed_at_config)
    with pytest.raises(KeyboardInterrupt):
        update_plan(folder, ["samples: 1 -> 2"], "new", TABLES)
    manifest = read_manifest(folder)
    assert manifest is not None and "samples: 1 -> 2" in str(manifest.config_changes)
    assert read_config_yaml(folder) == "old"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_broken_manifest_is_refused_in_one_line(folder, content):
    folder.commit("manifest.json", content)
    with pytest.raises(UserError, match=r"manifest\.json") as error:
        read_manifest(folder)
    assert "\n" not in str(error.value)
