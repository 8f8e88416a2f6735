"""Where the numbers come from: config, code, machines and attempts.

Keys read from the manifest, each optional ("not recorded" where absent):

- `raybt`, `name`, `notes`, and `model` with `name`, `fingerprint`, `revision`;
- `attempts`, each with `started`, `ended`, `status`, `address`, `git` (`commit`, `dirty`), `versions`, `hardware`
  (`host`, `cpu`, `cores`, `memory_gb`, `gpus`), `wall_seconds`, `rows`, `tokens`, `tokens_per_second`, `replicas`;
- `config_changes`, each with `at`, `differences`, and `set_aside`, each with `file`, `reason`.
"""

from typing import Any

import yaml

from raybt.report.blocks import Block, Cell, Code, Column, Paragraph, Row, Table
from raybt.report.results import Results, rows_of
from raybt.report.wording import UNRECORDED, code, count, duration, is_missing, listed, number, plain, text

Record = dict[str, Any]


def config(results: Results) -> list[Block]:
    whole = yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True, width=100)
    return [Paragraph("The resolved config, whole: defaults filled in."), Code(whole.rstrip("\n"), "yaml")]


def provenance(results: Results) -> list[Block]:
    manifest = results.manifest
    attempts = manifest.get("attempts") or []
    blocks = [_run(results), _attempts(attempts), _machines(attempts), _changes(manifest), _set_aside(manifest)]
    return [
        *[block for block in blocks if block.rows],
        *[Paragraph(plain(note)) for note in manifest.get("notes") or []],
    ]


def _run(results: Results) -> Table:
    manifest, model = results.manifest, results.manifest.get("model") or {}
    facts = {
        "Run": _said(manifest.get("name")),
        "raybt": _said(manifest.get("raybt")),
        "Model": _said(model.get("name")),
        "Model fingerprint": _said(model.get("fingerprint")),
        "Model revision": _said(model.get("revision")),
        "Numerics classes": _numerics(results),
    }
    return _facts("The run", facts)


def _numerics(results: Results) -> str:
    classes = dict.fromkeys(text(row["numerics"], "") for row in rows_of(results.conditions))
    return listed(plain(name) for name in classes if name) or UNRECORDED


def _attempts(attempts: list[Record]) -> Table:
    titles = ("Rows", "Tokens", "Tokens/s", "Wall time", "Replicas")
    columns = (
        Column("Attempt", False),
        Column("Status", False),
        Column("Code", False),
        *map(Column, titles),
        Column("Ray address", False),
    )
    rows = tuple(_attempt(place, attempt) for place, attempt in enumerate(attempts, 1))
    return Table("Attempts", columns, rows)


def _attempt(place: int, attempt: Record) -> Row:
    cells = (
        Cell(str(place), plain(f"{text(attempt.get('started'), '?')} to {text(attempt.get('ended'), '?')}")),
        Cell(_said(attempt.get("status"))),
        _commit(attempt.get("git") or {}),
        *[Cell(count(attempt.get(name))) for name in ("rows", "tokens")],
        Cell(number(attempt.get("tokens_per_second"))),
        Cell(duration(attempt.get("wall_seconds"))),
        Cell(count(attempt.get("replicas"))),
        Cell(_said(attempt.get("address"))),
    )
    return Row(cells)


def _commit(git: Record) -> Cell:
    if is_missing(git.get("commit")):
        return Cell(UNRECORDED)
    state = {True: "with uncommitted changes", False: "clean"}.get(git.get("dirty"), "clean or not: not recorded")  # pyright: ignore
    return Cell(code(str(git["commit"])[:12]), state)


def _machines(attempts: list[Record]) -> Table:
    """One row a distinct machine and set of versions, so that a run resumed twenty times stays short."""
    found: dict[tuple[str, str], list[str]] = {}
    for place, attempt in enumerate(attempts, 1):
        found.setdefault((_hardware(attempt), _versions(attempt)), []).append(str(place))
    columns = tuple(Column(title, False) for title in ("Attempts", "Machine", "Versions"))
    return Table("Machines and versions", columns, tuple(
        Row((Cell(listed(places)), Cell(hardware), Cell(versions))) for (hardware, versions), places in found.items()
    ))  # fmt: skip


def _hardware(attempt: Record) -> str:
    machine = attempt.get("hardware") or {}
    memory = machine.get("memory_gb")
    parts = (
        machine.get("host"),
        machine.get("cpu"),
        f"{count(machine['cores'])} cores" if not is_missing(machine.get("cores")) else None,
        f"{number(memory)} GB memory" if not is_missing(memory) else None,
        listed(map(str, machine.get("gpus") or [])) or "no GPU",
    )
    return plain(", ".join(str(part) for part in parts if part)) if machine else UNRECORDED


def _versions(attempt: Record) -> str:
    versions = attempt.get("versions") or {}
    return plain(", ".join(f"{package} {version}" for package, version in versions.items())) or UNRECORDED


def _changes(manifest: Record) -> Table:
    columns = (Column("At", False), Column("Changes of the config between attempts", False))
    rows = tuple(
        Row((Cell(_said(change.get("at"))), Cell(plain("; ".join(map(str, change.get("differences") or []))))))
        for change in manifest.get("config_changes") or []
    )
    return Table("Config changes", columns, rows)


def _set_aside(manifest: Record) -> Table:
    columns = (Column("File", False), Column("Why it was set aside; its rows ran again", False))
    rows = tuple(
        Row((Cell(code(text(entry.get("file")))), Cell(_said(entry.get("reason")))))
        for entry in manifest.get("set_aside") or []
    )
    return Table("Files set aside", columns, rows)


def _facts(caption: str, facts: dict[str, str]) -> Table:
    columns = (Column("What", False), Column("Value", False))
    return Table(caption, columns, tuple(Row((Cell(name), Cell(value))) for name, value in facts.items()))


def _said(value: Any) -> str:
    return plain(text(value, UNRECORDED))
