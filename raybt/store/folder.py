"""A run's folder, on a file system or in an object store. Every write is whole or absent.

On a file system a write is a temporary file, fsync, replace, fsync of the folder; in an object store it is one object,
which does not exist before it is complete.
"""

import errno
import json
import os
import time
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from raybt.errors import UserError

SET_ASIDE = "set-aside"
_TEMPORARY = ".tmp"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def run_root(artifacts: str, name: str) -> str:
    """Folder or URI of run `name` under `artifacts`; a query (`s3://bucket/runs?region=...`) stays at the end."""
    path, mark, query = artifacts.partition("?") if "://" in artifacts else (artifacts, "", "")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


class RunFolder:
    """Files of one run, by names relative to its root such as `completions/0-000.parquet`.

    Args:
        root: local folder, or URI that pyarrow knows (s3://, gs://, file://). The only state: a copy in another
            process works on the same folder.
    """

    def __init__(self, root: str):
        self.root = root if "://" in root else str(Path(root).expanduser().absolute())

    def __reduce__(self):
        return type(self), (self.root,)

    def __repr__(self):
        return f"RunFolder({self.root!r})"

    @cached_property
    def _place(self) -> tuple[fs.FileSystem, str]:
        """File system, and the root's path in it."""
        if "://" not in self.root:
            return fs.LocalFileSystem(), self.root
        try:
            filesystem, path = _from_uri(self.root)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unusable(self.root, str(error)) from None
        return filesystem, path

    @property
    def filesystem(self) -> fs.FileSystem:
        return self._place[0]

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The name's path in `filesystem`; where local, a path like any other."""
        return f"{self._place[1]}/{name}" if name else self._place[1]

    def commit(self, name: str, data: bytes) -> None:
        """Write a whole file; it replaces one of the same name. After return it survives a loss of power.

        Raises:
            UserError: the folder cannot be written, or there is no space.
        """
        try:
            _replace(Path(self.path(name)), data) if self.is_local else self._put(name, data)
        except OSError as error:
            raise write_error(error, self.root) from None

    def _put(self, name: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(self.path(name)) as stream:
            stream.write(data)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            return stream.read()

    def exists(self, name: str) -> bool:
        return self._look(self.path(name)).type == fs.FileType.File

    def list(self, prefix: str = "") -> list[tuple[str, int]]:
        """(name, bytes) of the files in the folder `prefix` and below it, by name; unfinished writes are left out."""
        selector = fs.FileSelector(self.path(prefix), recursive=True, allow_not_found=True)
        skip = len(self._place[1]) + 1
        found = [info for info in self._look(selector) if info.type == fs.FileType.File]
        return sorted((info.path[skip:], info.size) for info in found if not _is_hidden(info.base_name))

    def _look(self, what: "str | fs.FileSelector"):
        try:
            return self.filesystem.get_file_info(what)
        except OSError as error:  # no network, no such bucket, no permission
            fix = "check the path, the network and the credentials"
            raise _unusable(self.root, str(error), "reached", fix) from None

    def remove(self, name: str) -> None:
        self.filesystem.delete_file(self.path(name))

    def move_aside(self, name: str) -> str:
        """Move a file that cannot be used into `set-aside/`, for a person to look at; gives its new name."""
        taken = {one for one, _ in self.list(SET_ASIDE)}
        target = f"{SET_ASIDE}/{name.replace('/', '-')}"
        count = 1
        while (new := target if count == 1 else f"{target}.{count}") in taken:
            count += 1
        self.filesystem.create_dir(self.path(SET_ASIDE), recursive=True)
        self.filesystem.move(self.path(name), self.path(new))
        return new

    def commit_table(
        self, name: str, table: pa.Table, schema: pa.Schema, metadata: "dict[bytes, bytes] | None" = None
    ) -> None:
        """Write a Parquet file of exactly this schema, with `metadata` in its footer.

        Raises:
            ValueError: the table has other columns, or values that do not fit them.
        """
        exact = conform(table, schema).replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, exact.schema, compression="zstd", write_page_checksum=True) as writer:
            if exact.num_rows:  # `datasets` cannot read a row group of no rows
                writer.write_table(exact)
        self.commit(name, sink.getvalue().to_pybytes())

    def read_table(self, name: str, schema: pa.Schema, columns: "list[str] | None" = None) -> pa.Table:
        """Read a Parquet file, or some columns of it, and check that it has this schema.

        Raises:
            ValueError: it is no whole Parquet file of this schema.
            FileNotFoundError: there is no such file.
        """
        with (
            self.filesystem.open_input_file(self.path(name)) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            if not file.schema_arrow.equals(schema):
                raise ValueError(f"columns {', '.join(file.schema_arrow.names)}, not those of this kind of file")
            return file.read(columns)

    def read_metadata(self, name: str) -> dict[bytes, bytes]:
        """What `commit_table` was given as metadata; empty where there is no such file."""
        if not self.exists(name):
            return {}
        with self.filesystem.open_input_file(self.path(name)) as source:
            return pq.read_schema(source).metadata or {}

    def commit_json(self, name: str, value: Any) -> None:
        self.commit(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def sweep(self, older_than: float = 3600.0) -> None:
        """Delete what killed writers left behind more than `older_than` seconds ago; nothing ever reads it."""
        if not self.is_local:
            return
        for path in Path(self.root).rglob(f".*{_TEMPORARY}"):
            if time.time() - path.stat().st_mtime > older_than:
                path.unlink(missing_ok=True)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with its columns in the schema's order and types.

    Raises:
        ValueError: columns are missing or not in the schema, or a value does not fit its type.
    """
    odd = set(table.column_names) ^ set(schema.names)
    if odd or len(table.column_names) != len(schema.names):
        raise ValueError(f"a table's columns must be {schema.names}; missing or unknown: {sorted(odd)}")
    return table.select(schema.names).cast(schema)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}{_TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_hidden(base_name: str) -> bool:
    return base_name.startswith(".")


def _from_uri(uri: str) -> tuple[fs.FileSystem, str]:
    """(file system, path in it). S3 uploads in parts from the first byte; opened late, a small file is one PUT."""
    if uri.startswith("s3://") and "allow_delayed_open" not in uri:
        try:
            return fs.FileSystem.from_uri(f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true")
        except pa.ArrowInvalid:
            pass  # an older pyarrow, which uploads in parts: three requests, and the object appears as late
    return fs.FileSystem.from_uri(uri)


def write_error(error: OSError, root: str) -> UserError:
    if error.errno in _NO_SPACE:
        return UserError("a run needs disk space", f"no space left for {root}", "free some, then run the same command")
    return _unusable(root, error.strerror or str(error))


def _unusable(root: str, why: str, how: str = "written", fix: str = "set artifacts to another place") -> UserError:
    why = " ".join(why.split())
    return UserError(f"the run's folder must be one that can be {how}", f"{root} ({why})", fix)
