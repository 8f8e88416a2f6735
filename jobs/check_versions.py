"""The tests at both ends of what pyproject.toml allows: the lowest direct dependencies, and the newest, on each Python.

    python jobs/check_versions.py [--python 3.10,3.12] [--end lowest] [--tests tests/engine] [--keep FOLDER]

Each pair of Python and end gets a virtual environment of its own, made by pip, which reads PIP_FIND_LINKS and the like:
on a machine without a GPU point it to builds of torch without CUDA, or every environment takes gigabytes. A Python that
is not there is said and left out. Lowest means what pyproject.toml declares, on the lowest Python: older releases have
no builds for newer ones. The whole suite takes some ten minutes an environment, `--tests tests/engine` a few.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # pytest brings it

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ENDS = ("lowest", "newest")
TOLD = ("torch", "transformers", "ray", "numpy", "pyarrow")
console = Console(width=120, highlight=False)


@dataclass(frozen=True)
class Tried:
    """How the tests ended in one environment.

    Args:
        versions: of the packages in TOLD.
        counts: passed, failed and skipped; None where no test began.
    """

    python: str
    end: str
    versions: tuple[str, ...]
    counts: tuple[int, int, int] | None
    seconds: float

    @property
    def good(self) -> bool:
        return self.counts is not None and self.counts[0] > 0 and not self.counts[1]


def lowest(requirements: list[str]) -> list[str]:
    """Each requirement at its lower bound: `torch>=2.6,<3` -> `torch==2.6`.

    Raises:
        ValueError: one has none.
    """
    pins = []
    for requirement in map(Requirement, requirements):
        bounds = [one.version for one in requirement.specifier if one.operator == ">="]
        if not bounds:
            raise ValueError(f"{requirement} has no lower bound")
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        pins.append(f"{requirement.name}{extras}=={bounds[0]}")
    return pins


def declared() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def make(python: str, end: str, folder: Path) -> Path | None:
    """An environment with raybt and its tests' packages; its Python, or None where it cannot be made."""
    found = shutil.which(f"python{python}")
    if found is None or subprocess.run([found, "--version"], capture_output=True).returncode:
        console.print(f"Python {python}: not on this machine, left out")
        return None
    here = folder / f"{python}-{end}" / "bin" / "python"
    if not here.exists():
        subprocess.run([found, "-m", "venv", str(here.parents[1])], check=True)
    pins = lowest(declared()) if end == "lowest" else ["--upgrade"]
    command = [str(here), "-m", "pip", "install", "--quiet", "--prefer-binary", "-e", f"{ROOT}[dev]", *pins]
    if subprocess.run(command).returncode:
        console.print(f"Python {python}, {end}: pip found no such set of packages")
        return None
    return here


def run(here: Path, python: str, end: str, tests: list[str], processes: int) -> Tried:
    """The tests, in an environment that is ready."""
    start, report = time.monotonic(), here.parents[1] / "tests.xml"
    report.unlink(missing_ok=True)
    command = [
        str(here),
        "-m",
        "pytest",
        "-n",
        str(processes),
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *tests,
    ]
    subprocess.run(command, cwd=ROOT)
    return Tried(python, end, versions(here), counts(report), time.monotonic() - start)


def versions(here: Path) -> tuple[str, ...]:
    program = f"from importlib.metadata import version; print(*map(version, {TOLD!r}))"
    return tuple(subprocess.run([here, "-c", program], capture_output=True, text=True, check=True).stdout.split())


def counts(report: Path) -> tuple[int, int, int] | None:
    """Passed, failed and skipped of a JUnit report; None where there is none."""
    if not report.exists():
        return None
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return tests - failures - errors - skipped, failures + errors, skipped


def tell(tried: list[Tried]) -> None:
    table = Table("Python", "end", *TOLD, "passed", "failed", "skipped", "s")
    for one in tried:
        shown = map(str, one.counts) if one.counts else ("none", "", "")
        table.add_row(one.python, one.end, *one.versions, *shown, f"{one.seconds:.0f}")
    console.print(table)


def main(
    python: str = typer.Option(",".join(PYTHONS), help="which Pythons, with commas"),
    end: str = typer.Option(",".join(ENDS), help="which ends, with commas"),
    tests: str = typer.Option("tests", help="which tests, with commas"),
    processes: int = typer.Option(2, min=0, help="that run tests side by side"),
    keep: Path | None = typer.Option(None, help="make the environments in this folder and leave them there"),
) -> None:
    pythons, ends = python.split(","), end.split(",")
    if unknown := [name for name in ends if name not in ENDS] + [p for p in pythons if not re.fullmatch(r"3\.\d+", p)]:
        raise typer.BadParameter(f"{', '.join(unknown)}: ends are {', '.join(ENDS)}, a Python is one such as 3.12")
    pairs = [(one, "lowest") for one in pythons[:1] if "lowest" in ends]
    pairs += [(one, "newest") for one in pythons if "newest" in ends]
    with tempfile.TemporaryDirectory(prefix="raybt-versions-") as temporary:
        folder, tried, lacking = (keep or Path(temporary)).resolve(), [], 0
        for one, which in pairs:
            here = make(one, which, folder)
            lacking += here is None
            if here:
                tried.append(run(here, one, which, tests.split(","), processes))
                tell(tried)
    console.print("all passed" if tried and all(one.good for one in tried) else "FAILED")
    if lacking:
        console.print(f"{lacking} of {len(pairs)} environments could not be tried")
    sys.exit(0 if tried and all(one.good for one in tried) else 1)


if __name__ == "__main__":
    typer.run(main)
