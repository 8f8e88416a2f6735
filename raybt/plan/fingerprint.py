"""The content hash of a local model: the same files give the same fingerprint on every machine and path."""

import json
import os
import tempfile
from hashlib import blake2b
from pathlib import Path

from raybt.plan.model_files import folder_files
from raybt.plan.weights import check_listing, weight_files

LOCAL = "local:"
_CHUNK = 1 << 22  # bytes read at a time

Known = dict[str, list]  # path -> [size, mtime_ns, inode, digest]


def fingerprint(folder: Path) -> str:
    """`local:` and a hash of the names and bytes of the files that decide what the model computes.

    File hashes are cached by path, size, time and inode under the user's cache folder; a cache that cannot be read or
    written only costs time.

    Raises:
        UserError: the folder holds no config.json, or no weights.
    """
    known = _read_cache()
    hasher = blake2b(digest_size=16, person=b"raybt model")
    fresh: Known = {}
    for path in deciding_files(folder):
        digest = _cached_digest(path, known, fresh)
        hasher.update(f"{len(path.name)}:{path.name}:{digest}\n".encode())
    if fresh:
        _write_cache({name: entry for name, entry in {**known, **fresh}.items() if os.path.exists(name)})
    return f"{LOCAL}{hasher.hexdigest()}"


def deciding_files(folder: Path) -> list[Path]:
    """Config, generation config, model code and the weights that transformers would load, by name."""
    check_listing(folder_files(folder))
    settings = [folder / "config.json", *folder.glob("generation_config.json"), *folder.glob("*.py")]
    return sorted(settings + weight_files(folder), key=lambda path: path.name)


def _cached_digest(path: Path, known: Known, fresh: Known) -> str:
    """The file's digest; adds it to `fresh` where it was not known."""
    status = path.stat()
    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
    name = str(path.resolve())
    entry = known.get(name)
    if entry and entry[:3] == identity:
        return entry[3]
    digest = _digest(path)
    fresh[name] = [*identity, digest]
    return digest


def _digest(path: Path) -> str:
    hasher = blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "raybt" / "fingerprints.json"


def _read_cache() -> Known:
    try:
        known = json.loads(_cache_file().read_text())
        return {name: entry for name, entry in known.items() if isinstance(entry, list) and len(entry) == 4}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_cache(known: Known) -> None:
    path = _cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(known, file)
        os.replace(file.name, path)
    except OSError:
        pass  # a read-only home costs a hash at the next start, nothing else
