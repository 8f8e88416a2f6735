"""The rooms of the house and the arrows between them: which part may know of which, and what may open a file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import raybt
from tests.commands import BROUGHT

HOUSE = Path(raybt.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
HEAVY = {"torch", "ray"} - BROUGHT
LONGEST = 300

LIGHT_ROOMS = ("plan", "study", "store", "measure", "report")
LIGHT_FILES = ("config", "errors", "load", "cli", "show", "publish")

READERS = {"open", "read_text", "read_bytes", "read_csv", "read_json", "read_parquet", "read_table", "ParquetFile"}
WRITERS = {"write_text", "write_bytes", "write_table", "to_parquet", "savefig", "mkdir", "unlink", "touch"}


def room(name: str) -> list[Path]:
    return [path for path in FILES if path.is_relative_to(HOUSE / name)]


def module(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, top_only: bool = False) -> set[str]:
    """Full names of what a file imports, in functions too unless `top_only`; type hints' imports do not count."""
    tree = ast.parse(path.read_text())
    hints = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    nodes = [node for node in (tree.body if top_only else ast.walk(tree)) if node not in hints]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in froms), f"{path.name}: imports are absolute here"
    # `from raybt.plan import sites` imports the module raybt.plan.sites
    return plain | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def arrows(path: Path, *packages: str, top_only: bool = False) -> set[str]:
    """What a file imports from any of these packages."""
    return {name for name in imported(path, top_only) if any(is_within(name, package) for package in packages)}


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages that a fresh Python has after importing these modules."""
    code = "\n".join(f"import {name}" for name in ["sys", *modules])
    code += "\nprint(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_planning_storing_measuring_and_reporting_load_neither_torch_nor_ray():
    names = [module(path) for name in LIGHT_ROOMS for path in room(name)]
    assert len(names) > 30
    assert not HEAVY & loaded_by([f"raybt.{name}" for name in LIGHT_FILES] + names)


def test_the_engine_loads_no_ray():
    names = [module(path) for path in room("engine")]
    there = loaded_by(names)
    assert "torch" in there and "ray" not in there


@pytest.mark.parametrize(
    ("from_room", "to"),
    [
        ("engine", ["raybt.config", "raybt.fleet", "raybt.plan", "raybt.store", "raybt.measure", "raybt.report"]),
        ("plan", ["raybt.engine", "raybt.fleet", "raybt.measure", "raybt.report", "torch", "ray"]),
        ("store", ["raybt.plan", "raybt.engine", "raybt.fleet", "raybt.measure", "raybt.report", "torch", "ray"]),
        ("measure", ["raybt.plan", "raybt.engine", "raybt.fleet", "raybt.report", "torch", "ray"]),
        ("report", ["raybt.plan", "raybt.engine", "raybt.fleet", "raybt.store", "torch", "ray"]),
        ("study", ["raybt.engine", "torch"]),
    ],
)
def test_no_arrow_leads(from_room, to):
    found = {module(path): arrows(path, *to) for path in room(from_room)}
    assert not {name: names for name, names in found.items() if names}


@pytest.mark.parametrize("from_room", ["plan", "measure"])
def test_of_the_store_only_the_schemas_are_known(from_room):
    known = set().union(*(arrows(path, "raybt.store") for path in room(from_room)))
    assert known and all(is_within(name, "raybt.store.schemas") for name in known), known


def test_the_fleet_loads_torch_only_inside_its_replicas():
    found = {module(path): arrows(path, "torch", "raybt.engine", top_only=True) for path in room("fleet")}
    assert found and not {name: names for name, names in found.items() if names}
    assert "torch" not in loaded_by([module(path) for path in room("fleet")]) - BROUGHT


@pytest.mark.parametrize("name", ["measure", "report"])
def test_measures_and_reports_touch_no_files(name):
    """They take tables and give tables or bytes. (The report's page templates are part of the package.)"""
    for path in room(name):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
        assert not names & READERS, path
        assert name == "report" or not names & WRITERS, path
        assert not arrows(path, "raybt.store.folder", "pyarrow.fs", "pyarrow.parquet", "pathlib", "os"), path


def test_only_the_command_line_prints():
    for name in ("engine", "plan", "store", "measure", "report"):
        for path in room(name):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}, path


@pytest.mark.parametrize("path", FILES, ids=module)
def test_every_file_says_what_it_is_and_stays_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text))
