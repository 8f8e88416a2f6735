"""The files that say what a run is: manifest.json, the config it was made from, and its plan.

The manifest is written last when a run begins, so a folder without one has not begun, whatever lies in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from raybt.errors import UserError
from raybt.store.folder import RunFolder
from raybt.store.schemas import CONDITIONS, PLAN, PROMPTS

MANIFEST, CONFIG = "manifest.json", "config.yaml"
PLAN_TABLES = {"plan.parquet": PLAN, "prompts.parquet": PROMPTS, "conditions.parquet": CONDITIONS}

Entry = dict[str, Any]


class ModelEntry(BaseModel):
    """The model as resolved."""

    name: str
    path: str
    revision: str | None
    fingerprint: str


class Manifest(BaseModel):
    """manifest.json; every time is ISO 8601 in UTC.

    `attempts` has one entry for each start of the run, `config_changes` each change of its config that was accepted,
    `set_aside` each file that could not be used.
    """

    name: str
    created: str
    raybt: str
    model: ModelEntry
    attempts: list[Entry] = []
    config_changes: list[Entry] = []
    set_aside: list[Entry] = []


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def begin(
    folder: RunFolder, name: str, model: ModelEntry, config_yaml: str, tables: Mapping[str, pa.Table]
) -> Manifest:
    """Write a new run's config and plan tables (the names of PLAN_TABLES), and last its manifest."""
    _commit_plan(folder, tables)
    folder.commit(CONFIG, config_yaml.encode())
    manifest = Manifest(name=name, created=now(), raybt=version("raybt"), model=model)
    write_manifest(folder, manifest)
    return manifest


def update_plan(folder: RunFolder, changes: Sequence[str], config_yaml: str, tables: Mapping[str, pa.Table]) -> None:
    """Give a run that has begun another plan, and log what changed in its config.

    The log is written before the config: killed in between, the same change is logged again, never lost.
    """
    _commit_plan(folder, tables)
    if changes:
        record_change(folder, changes)
    folder.commit(CONFIG, config_yaml.encode())


def open_existing(root: str) -> RunFolder:
    """The folder of a run that has begun.

    Raises:
        UserError: there is no run, or its manifest is not readable.
    """
    folder = RunFolder(root)
    if read_manifest(folder) is None:
        raise UserError(f"a run's folder holds {MANIFEST}", root, "name one, for example artifacts/demo")
    return folder


def read_manifest(folder: RunFolder) -> Manifest | None:
    """The manifest, or None where the run has not begun.

    Raises:
        UserError: there is one, but it is not readable.
    """
    if not folder.exists(MANIFEST):
        return None
    try:
        return Manifest.model_validate_json(folder.read(MANIFEST))
    except ValidationError as error:
        raise UserError(
            f"{MANIFEST} must be as raybt wrote it",
            f"{folder.root}: {error.errors()[0]['msg']}",
            "restore it, or delete it: the run begins anew and keeps its completions",
        ) from None


def write_manifest(folder: RunFolder, manifest: Manifest) -> None:
    folder.commit(MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())


def read_config_yaml(folder: RunFolder) -> str:
    return folder.read(CONFIG).decode()


def record_change(folder: RunFolder, changes: Sequence[str]) -> None:
    """Log an accepted change of the config."""
    _append(folder, "config_changes", [{"at": now(), "differences": list(changes)}])


def record_set_aside(folder: RunFolder, files: Iterable[tuple[str, str]]) -> None:
    """Log files that were set aside, as (name, reason)."""
    _append(folder, "set_aside", [{"at": now(), "file": name, "reason": reason} for name, reason in files])


def record_attempt(folder: RunFolder, attempt: Entry) -> int:
    """Log a start of the run (`started` is filled in); gives the attempt's number, from 0."""
    return len(_append(folder, "attempts", [{"started": now(), **attempt}]).attempts) - 1


def finish_attempt(folder: RunFolder, number: int, outcome: Entry) -> None:
    """Add to an attempt's entry how it ended (`ended` is filled in)."""
    manifest = _existing(folder)
    manifest.attempts[number].update({"ended": now(), **outcome})
    write_manifest(folder, manifest)


def record_cause(folder: RunFolder, cause: Entry, trace: str) -> None:
    """Add to the last attempt what broke after its rows; a run that decoded nothing has no attempt to add it to."""
    manifest = read_manifest(folder)
    if manifest and manifest.attempts:
        last = manifest.attempts[-1]
        last.update({"status": "failed", "cause": cause, "notes": [*last.get("notes", []), trace]})
        write_manifest(folder, manifest)


def _append(folder: RunFolder, field: str, entries: list[Entry]) -> Manifest:
    manifest = _existing(folder)
    if entries:
        getattr(manifest, field).extend(entries)
        write_manifest(folder, manifest)
    return manifest


def _existing(folder: RunFolder) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder.root}/{MANIFEST}: the run has not begun")
    return manifest


def _commit_plan(folder: RunFolder, tables: Mapping[str, pa.Table]) -> None:
    for name, schema in PLAN_TABLES.items():
        folder.commit_table(name, tables[name], schema)
