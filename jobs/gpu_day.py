"""All that raybt wants to know of a GPU, in one run of nine minutes, most wanted first.

    python jobs/gpu_day.py [--out FOLDER] [--budget SECONDS] [--parts runs,speed]
    python jobs/gpu_day.py --device cpu --quick     # the same code at tiny shapes, without a GPU

Each part is a process of its own with a time limit; what it has found is on disk after every finding, so that a part
that dies or hangs costs nothing but itself. FOLDER gets a JSON file for each part, and all of them in all.json.
Needs torch, triton, transformers, numpy, safetensors, typer and rich.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from tempfile import gettempdir
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

JOBS = Path(__file__).resolve().parent
PARTS = {"runs": 90, "kernels": 40, "right": 80, "speed": 190, "grid": 95, "profile": 45}
"""Part -> seconds, in the order of their worth. What one leaves is the next one's; the last has all that is left."""
LEAST = 15.0  # seconds in which a part can find anything: its process takes half of it to start
console = Console(width=120)


@dataclass
class Ended:
    """How a part went. status: `done`, or what went wrong."""

    part: str
    status: str
    seconds: float


def refuse(rule: str, fix: str) -> None:
    console.print(f"{rule}. Fix: {fix}", markup=False, soft_wrap=True)
    raise typer.Exit(2)


def chosen(parts: str | None, part: str | None) -> list[str]:
    names = [name.strip() for name in (part or parts or ",".join(PARTS)).split(",")]
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        refuse(f"gpu_day has no part {', '.join(unknown)}", f"choose from {', '.join(PARTS)}")
    return names


def check_device(device: str) -> None:
    if device.partition(":")[0] not in ("cuda", "cpu"):
        refuse(f"--device must be cuda or cpu; got {device}", "--device cuda")
    if device == "cpu":
        return
    import torch  # takes seconds, of which a wrong option should cost none

    if not torch.cuda.is_available():
        refuse("gpu_day needs a CUDA GPU that torch can see; got none", "--device cpu --quick shows that the code runs")


def card(device: str) -> dict[str, Any]:
    """What the numbers were made with."""
    found: dict[str, Any] = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "device": device}
    found["python"] = sys.version.split()[0]
    for package in ("torch", "triton", "transformers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None  # all but torch and transformers can be done without
    if device == "cpu":
        return found | {"card": "CPU", "cuda": None, "driver": None}
    import torch

    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm", "--format=csv"]
    try:
        found["nvidia_smi"] = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        found["nvidia_smi"] = []
    said = found["nvidia_smi"][1].split(", ") if len(found["nvidia_smi"]) > 1 else []
    name, driver = said[:2] if said else (torch.cuda.get_device_name(), None)
    return found | {"card": name, "cuda": torch.version.cuda, "driver": driver, "compiler": which("cc") or which("gcc")}


def read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def merge(out: Path, about: dict[str, Any], ended: list[Ended]) -> dict[str, Any]:
    """Everything so far as one file: also parts that an earlier run has left in the folder."""
    parts = {name: read(out / f"{name}.json") for name in PARTS if (out / f"{name}.json").exists()}
    for one in ended:
        parts.setdefault(one.part, {"part": one.part}).update(status=one.status, seconds=round(one.seconds, 1))
    whole = {"card": about, "parts": parts}
    (out / "all.json").write_text(json.dumps(whole, indent=1))
    return whole


def environment(out: Path, part: str, device: str) -> dict[str, str]:
    """Of a part's process. What one part compiles, the next one finds; on a CPU kernels run in Triton's interpreter."""
    path = os.pathsep.join(filter(None, (str(JOBS.parent), os.environ.get("PYTHONPATH"))))
    found = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    found["TORCHINDUCTOR_CACHE_DIR"] = str(Path(gettempdir()) / f"gpu-day-inductor-{os.getuid()}")
    if device == "cpu":
        found["OMP_NUM_THREADS"] = "1"  # on tiny shapes threads only wait for one another
        found |= {"TRITON_INTERPRET": "1"} if part == "kernels" else {}
    return found


def once(command: list[str], env: dict[str, str], seconds: float) -> int | None:
    """A process and all its children, for so long at most; None where time ran out."""
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        return process.wait(timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):  # where all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_part(part: str, out: Path, device: str, quick: bool, seconds: float) -> Ended:
    """A part, started again as often as it dies after a section that it had not begun before."""
    start, file = time.monotonic(), out / f"{part}.json"
    file.unlink(missing_ok=True)
    env = environment(out, part, device)
    while True:
        begun = len(read(file).get("sections", {}))
        left = seconds - (time.monotonic() - start)
        command = [sys.executable, str(JOBS / "gpu_day.py"), "--inside", part, "--out", str(out), "--device", device,
                   "--budget", f"{max(left, 1):.0f}", *(["--quick"] if quick else [])]  # fmt: skip
        code = once(command, env, left)
        spent = time.monotonic() - start
        if code == 0:
            failed = len(read(file).get("failed", []))
            return Ended(part, f"{failed} failed" if failed else "done", spent)
        if code is None:
            return Ended(part, f"stopped after {spent:.0f} s", spent)
        again = len(read(file).get("sections", {})) > begun and seconds - spent > LEAST
        console.print(f"{part}: its process ended with {code}" + (", starting it again" if again else ""))
        if not again:
            return Ended(part, f"died ({code})", spent)


def inside(part: str, out: Path, device: str, quick: bool, seconds: float) -> None:
    """The part itself, in its own process."""
    import torch
    from gpu.found import Found

    if quick and device == "cpu":  # to compile even a tiny model takes a CPU most of a minute
        torch.compile = partial(torch.compile, backend="eager")  # pyright: ignore[reportAttributeAccessIssue]
    found = Found(out / f"{part}.json", device, seconds, patience=5 if device == "cpu" else 1)
    importlib.import_module(f"gpu.part_{part}").run(found, device, quick)


def summary(whole: dict[str, Any]) -> Table:
    table = Table("part", "status", "s", "what it found")
    for name, part in whole["parts"].items():
        lines = part.get("headlines", []) + [f"FAILED {one}" for one in part.get("failed", [])[:8]]
        seconds = part.get("seconds")
        table.add_row(name, part.get("status", "?"), "" if seconds is None else f"{seconds:.0f}", "\n".join(lines))
    return table


def main(
    device: str = typer.Option("cuda"),
    quick: bool = typer.Option(False, "--quick", help="tiny shapes and few steps: shows that the code runs"),
    out: Path = typer.Option(Path(gettempdir()) / "gpu-day", help="folder for the numbers"),
    budget: float = typer.Option(540, min=1, help="seconds for all parts together"),
    parts: str | None = typer.Option(None, help=f"some of {','.join(PARTS)}, in this order"),
    part: str | None = typer.Option(None, help="one part alone"),
    inside_of: str | None = typer.Option(None, "--inside", hidden=True),
) -> None:
    if inside_of:
        inside(inside_of, out, device, quick, budget)
        return
    names = chosen(parts, part)
    check_device(device)
    out.mkdir(parents=True, exist_ok=True)
    start, due, ended, about = time.monotonic(), 0.0, [], card(device)
    console.print(about)
    for name in names:
        whole_rest = name == names[-1] or device == "cpu"  # a rehearsal fails by mistakes, not by slowness
        due = budget if whole_rest else min(budget, due + PARTS[name])
        seconds = due - (time.monotonic() - start)
        if seconds < LEAST:
            ended.append(Ended(name, "skipped: no time left", 0))
            console.print(f"{name}: skipped, {max(seconds, 0):.0f} s are left of the budget and it needs {LEAST:.0f}")
        else:
            console.rule(f"{name}, {seconds:.0f} s at most")
            ended.append(run_part(name, out, device, quick, seconds))
        whole = merge(out, about, ended)
    console.print(summary(whole))
    console.print(f"{time.monotonic() - start:.0f} s in all; {out / 'all.json'}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
