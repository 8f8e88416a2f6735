"""The same promises in an object store, against a stand-in for S3 on this machine."""

import pytest

from raybt.errors import UserError
from raybt.store.folder import RunFolder, run_root
from raybt.store.shards import COMPLETED, commit_rows, committed_in_block, done, read_completions
from tests.store.shards import completions

server_of = pytest.importorskip("moto.server", reason="needs moto[server]")


@pytest.fixture(scope="module")
def endpoint():
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def folder(endpoint, monkeypatch, request):
    from pyarrow import fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    bucket = request.node.name.replace("_", "-")[:60].strip("-")
    store = fs.S3FileSystem(endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True)
    store.create_dir(bucket)
    return RunFolder(run_root(f"s3://{bucket}/runs?endpoint_override={endpoint}&scheme=http&region=us-east-1", "small"))


def test_files_come_and_go(folder):
    folder.commit("a/b.bin", b"one")
    folder.commit("a/b.bin", b"two")
    assert folder.read("a/b.bin") == b"two" and folder.list() == folder.list("a") == [("a/b.bin", 3)]
    assert not folder.exists("none") and folder.list("none") == []
    assert folder.move_aside("a/b.bin") == "set-aside/a-b.bin" and folder.list("a") == []
    folder.remove("set-aside/a-b.bin")
    with pytest.raises(FileNotFoundError):
        folder.read("a/b.bin")


def test_a_missing_bucket_is_refused_in_one_line(folder, endpoint):
    lost = RunFolder(f"s3://no-such-bucket/run?endpoint_override={endpoint}&scheme=http&region=us-east-1")
    with pytest.raises(UserError, match="no-such-bucket") as error:
        lost.commit("x", b"1")
    assert "\n" not in str(error.value)


def test_shards_keep_their_promises(folder):
    commit_rows(folder, COMPLETED, "b1", 0, completions("k1", "k2"))
    commit_rows(folder, COMPLETED, "b2", 0, completions("k2", "k3"))
    folder.commit("completions/b3-000.parquet", b"torn")
    found = done(folder, repair=True)
    assert (found.keys, [name for name, _ in found.torn]) == ({"k1", "k2", "k3"}, ["completions/b3-000.parquet"])
    assert read_completions(folder, found.shards)["key"].to_pylist() == ["k1", "k2", "k3"]
    assert committed_in_block(folder, "b1") == ({"k1", "k2"}, 1)
