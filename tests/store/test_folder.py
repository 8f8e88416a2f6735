"""Writes to a run folder: whole or absent."""

import errno
import os
import pickle
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybt.errors import UserError
from raybt.store.folder import RunFolder, run_root
from raybt.store.schemas import FAILURES
from tests.store.shards import failures


@pytest.fixture
def folder(tmp_path):
    return RunFolder(str(tmp_path / "run"))


def test_what_is_committed_is_read(folder):
    folder.commit("a/b.bin", b"one")
    folder.commit("a/b.bin", b"two")
    assert folder.read("a/b.bin") == b"two" and folder.exists("a/b.bin") and not folder.exists("a")
    assert folder.list() == folder.list("a") == [("a/b.bin", 3)] and folder.list("none") == []
    folder.remove("a/b.bin")
    assert not folder.exists("a/b.bin")


def test_a_folder_travels_as_its_root(folder):
    folder.commit("x", b"1")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy.root == folder.root and copy.read("x") == b"1"


def test_a_relative_root_is_fixed_where_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder("runs/a")
    monkeypatch.chdir("/")
    folder.commit("x", b"1")
    assert (tmp_path / "runs" / "a" / "x").read_bytes() == b"1"


def test_run_roots():
    assert run_root("artifacts/", "demo") == "artifacts/demo"
    assert run_root("s3://bucket/runs?region=eu-1", "demo") == "s3://bucket/runs/demo?region=eu-1"


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(folder, monkeypatch, call):
    folder.commit("x", b"old")

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UserError, match="broken"):
        folder.commit("x", b"new")
    assert folder.read("x") == b"old" and os.listdir(folder.root) == ["x"]


def test_the_order_is_write_sync_replace_sync(folder, monkeypatch):
    seen = []
    for name in ("fsync", "replace"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, plain=plain: (seen.append(name), plain(*args))[1])
    folder.commit("x", b"1")
    assert seen == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "disk space"), (errno.EDQUOT, "disk space"), (errno.EACCES, "written"), (errno.EROFS, "written")],
)
def test_a_full_or_forbidden_disk_is_told_in_one_line(folder, monkeypatch, number, says):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=says) as error:
        folder.commit("x", b"1")
    assert "\n" not in str(error.value) and folder.root in str(error.value)
    assert os.listdir(folder.root) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_really_full_device(folder, monkeypatch):
    plain = os.fsync

    def fill(handle):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"1")
        plain(handle)

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(UserError, match="disk space"):
        folder.commit("x", b"1")


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="written"):
        RunFolder(str(tmp_path / "run")).commit("x", b"1")


def test_an_unknown_kind_of_uri_is_refused():
    with pytest.raises(UserError, match="ftp://"):
        RunFolder("ftp://host/x").commit("x", b"1")


def test_what_a_killed_writer_left_is_never_seen_and_swept_when_old(folder):
    folder.commit("x", b"1")
    left = [os.path.join(folder.root, f".x.{n}.tmp") for n in (1, 2)]
    for path in left:
        open(path, "w").close()
    long_ago = time.time() - 7200
    os.utime(left[0], (long_ago, long_ago))
    assert folder.list() == [("x", 1)]
    folder.sweep()
    assert sorted(os.listdir(folder.root)) == [".x.2.tmp", "x"]


def test_tables_have_exactly_their_schema(folder):
    table = failures("k1", "k2")
    folder.commit_table("t.parquet", table.select(["replica", "key", "error"]), FAILURES)
    assert folder.read_table("t.parquet", FAILURES) == table
    assert pq.read_table(folder.path("t.parquet")).schema.equals(FAILURES)


@pytest.mark.parametrize(
    "table",
    [
        failures("k").drop_columns("error"),
        failures("k").append_column("more", pa.array([1])),
        failures("k").set_column(1, "error", pa.array([[1]])),
    ],
)
def test_other_tables_are_refused(folder, table):
    with pytest.raises((ValueError, pa.ArrowException)):
        folder.commit_table("t.parquet", table, FAILURES)
    assert not folder.exists("t.parquet")


def test_dictionaries_become_text(folder):
    table = failures("k1", "k2")
    coded = table.set_column(1, "error", table["error"].dictionary_encode())
    folder.commit_table("t.parquet", coded, FAILURES)
    assert folder.read_table("t.parquet", FAILURES) == table


def test_files_set_aside_keep_apart(folder):
    for content in (b"1", b"2", b"3"):
        folder.commit("completions/a.parquet", content)
        folder.move_aside("completions/a.parquet")
    names = [name for name, _ in folder.list("set-aside")]
    assert [folder.read(name) for name in names] == [b"1", b"2", b"3"] and folder.list("completions") == []


def test_json_reads_back(folder):
    folder.commit_json("x.json", {"a": ["ä", 1.5, None]})
    assert folder.read_json("x.json") == {"a": ["ä", 1.5, None]}
