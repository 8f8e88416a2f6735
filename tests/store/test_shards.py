"""Shards: at least once in, exactly once out."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.store.folder import RunFolder
from raybt.store.shards import (
    COMPLETED,
    commit_failures,
    commit_rows,
    committed_in_block,
    done,
    read_completions,
)  # fmt: skip
from tests.store.shards import completions, failures


@pytest.fixture
def folder(tmp_path):
    return RunFolder(str(tmp_path / "run"))


def test_nothing_is_done_in_an_empty_folder(folder):
    assert done(folder) == done(folder, repair=True)
    assert (done(folder).keys, committed_in_block(folder, "b")) == (set(), (set(), 0))
    assert read_completions(folder, []).num_rows == 0


def test_committed_rows_are_done(folder):
    first = commit_rows(folder, COMPLETED, "b1", 0, completions("k1", "k2"))
    second = commit_rows(folder, COMPLETED, "b2", 0, completions("k3"))
    found = done(folder)
    assert (found.keys, found.shards, found.torn, found.repeated) == ({"k1", "k2", "k3"}, [first, second], [], [])
    assert read_completions(folder, found.shards)["key"].to_pylist() == ["k1", "k2", "k3"]


def test_a_retried_block_learns_its_own_keys_and_a_new_part(folder):
    commit_rows(folder, COMPLETED, "b1", 0, completions("k1"))
    commit_rows(folder, COMPLETED, "b1", 1, completions("k2"))
    commit_failures(folder, "b1", 4, failures("k3"))
    commit_rows(folder, COMPLETED, "b1-x", 9, completions("k9"))
    commit_rows(folder, COMPLETED, "b11", 9, completions("k8"))
    assert committed_in_block(folder, "b1") == ({"k1", "k2"}, 5)


def test_failed_rows_are_failed_until_they_are_done(folder):
    commit_failures(folder, "b1", 0, failures("k1", "k2", error="first"))
    commit_failures(folder, "b2", 0, failures("k2", error="second"))
    commit_rows(folder, COMPLETED, "b3", 0, completions("k1"))
    found = done(folder)
    assert (found.keys, found.failed) == ({"k1"}, {"k2": "second"})


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def flipped(data: bytes) -> bytes:
    """One byte of the first page, which holds keys, is another."""
    return data[:30] + bytes([data[30] ^ 0xFF]) + data[31:]


@pytest.mark.parametrize("spoil", [cut, zeroed, flipped, lambda data: b"", lambda data: b"not parquet"])
def test_torn_shards_are_set_aside_named_and_their_rows_missing(folder, spoil):
    good = commit_rows(folder, COMPLETED, "b1", 0, completions("k1"))
    torn = commit_rows(folder, COMPLETED, "b2", 0, completions("k2"))
    folder.commit(torn, spoil(folder.read(torn)))
    seen = done(folder)
    assert (seen.keys, seen.shards, [name for name, _ in seen.torn]) == ({"k1"}, [good], [torn])
    assert folder.exists(torn), "looking changes nothing"
    assert done(folder, repair=True).torn == seen.torn
    assert done(folder).torn == [] and not folder.exists(torn) and len(folder.list("set-aside")) == 1


def test_foreign_files_are_set_aside(folder):
    folder.commit_table("completions/x-000.parquet", pa.table({"key": ["k"]}), pa.schema([("key", pa.string())]))
    folder.commit("completions/notes.txt", b"mine")
    nameless = completions("k").set_column(0, "key", pa.array([None], pa.string()))
    folder.commit_table("completions/y-000.parquet", nameless, nameless.schema)
    found = done(folder, repair=True)
    assert found.keys == set() and len(found.torn) == 3 and len(folder.list("set-aside")) == 3


def test_torn_failures_are_set_aside_too(folder):
    folder.commit("failures/b-000.parquet", b"")
    assert [name for name, _ in done(folder, repair=True).torn] == ["failures/b-000.parquet"]


def test_what_a_kill_between_write_and_replace_leaves_is_not_there(folder, tmp_path):
    commit_rows(folder, COMPLETED, "b1", 0, completions("k1"))
    whole = (tmp_path / "run/completions/b1-000.parquet").read_bytes()
    (tmp_path / "run/completions/.b2-000.parquet.abc.tmp").write_bytes(whole[:99])
    found = done(folder, repair=True)
    assert (found.keys, found.torn) == ({"k1"}, []) and committed_in_block(folder, "b2") == (set(), 0)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5), max_size=5))
def test_after_repair_each_key_stands_once_with_its_first_row(tmp_path_factory, shards):
    folder = RunFolder(str(tmp_path_factory.mktemp("run")))
    for number, keys in enumerate(shards):
        commit_rows(folder, COMPLETED, f"b{number}", 0, completions(*keys, token=number))
    before = done(folder)
    found = done(folder, repair=True)
    rows = read_completions(folder, found.shards).to_pylist()
    keys = [key for shard in shards for key in shard]
    assert [row["key"] for row in rows] == list(dict.fromkeys(keys))
    first = {key: number for number, shard in reversed(list(enumerate(shards))) for key in shard}
    assert all(row["token_ids"][0] == first[row["key"]] for row in rows)
    assert sum(rows for _, rows in before.repeated) == len(keys) - len(set(keys))
    assert done(folder).repeated == [] and done(folder).keys == found.keys == set(keys)


def test_a_shard_that_is_torn_past_its_keys_is_named_when_read_and_found_by_repair(folder):
    name = commit_rows(folder, COMPLETED, "b1", 0, completions(*[f"k{n}" for n in range(100)]))
    data = bytearray(folder.read(name))
    column = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(1)
    data[column.data_page_offset - 1] ^= 0xFF  # the last byte of the page before, which holds the distinct tokens
    folder.commit(name, bytes(data))
    with pytest.raises(ValueError, match="b1-000"):
        read_completions(folder, [name])
    assert [torn for torn, _ in done(folder, repair=True).torn] == [name]
    assert done(folder).keys == set()


def test_an_outage_is_not_taken_for_a_torn_shard(folder, monkeypatch):
    commit_rows(folder, COMPLETED, "b1", 0, completions("k1"))

    def fail(*_, **__):
        raise OSError("the store does not answer")

    monkeypatch.setattr(RunFolder, "read_table", fail)
    monkeypatch.setattr(RunFolder, "read", fail)
    with pytest.raises(OSError, match="answer"):
        done(folder, repair=True)
    assert folder.exists("completions/b1-000.parquet")
