"""Planning and the store load neither torch nor Ray, so that `raybt plan` answers in seconds anywhere."""

import subprocess
import sys
from pathlib import Path

from tests.commands import BROUGHT

HEAVY = {"torch", "ray"} - BROUGHT
MODULES = [
    "plan.rows",
    "plan.changes",
    "store.folder",
    "store.shards",
    "store.manifest",
    "store.lock",
    "load",
    "config",
]


def loaded_by(program: str) -> set[str]:
    code = f"{program}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_them_loads_neither_torch_nor_ray():
    assert not HEAVY & loaded_by("\n".join(f"import raybt.{name}" for name in MODULES))


def test_planning_loads_neither_torch_nor_ray():
    demo = Path(__file__).parents[2] / "configs" / "demo.yaml"
    planning = "from raybt.load import load_config; from raybt.plan.rows import make_plan"
    assert not HEAVY & loaded_by(f"{planning}; make_plan(load_config({str(demo)!r}))")
