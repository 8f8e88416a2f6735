"""Where and with what a run was made: code, versions, hardware."""

import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import ray

PACKAGES = (
    "raybt",
    "ray",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "pyarrow",
    "pandas",
    "numpy",
)


def provenance(address: str | None) -> dict:
    """Address, git commit, versions and hardware of the driver and its cluster, as plain data."""
    return {
        "address": address or "local",
        "git": git_state(Path(__file__).parent),
        "versions": {"python": platform.python_version(), **package_versions()},
        "hardware": hardware(),
    }


def git_state(folder: Path) -> dict | None:
    """Commit of the checkout that raybt runs from and whether it has uncommitted changes; None for an install."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else this is an install inside somebody's checkout
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict:
    nodes = [node for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []
    gpus = [kind for node in nodes for kind in node["Resources"] if kind.startswith("accelerator_type:")]
    return {
        "host": socket.gethostname(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": sorted(kind.removeprefix("accelerator_type:") for kind in gpus),
        "nodes": len(nodes),
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
