"""What this machine has for raybt, what is missing, and how to get it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dotenv import dotenv_values

LEAST_DISK_GB = 5


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Args:
        needed: whether raybt cannot work without it.
        fix: how to get it where it is not ok.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True


def examine(smoke: bool = False) -> list[Check]:
    """Every check, the slow one last."""
    checks = [python(), *packages(), gpu(), hub_token(), disk()]
    return [*checks, smoke_test()] if smoke else checks


def python() -> Check:
    good = sys.version_info >= (3, 10)
    return Check("Python", good, platform.python_version(), "install Python 3.10 or newer, then make setup")


def packages() -> Iterator[Check]:
    for name in ("torch", "transformers", "ray", "pyarrow", "datasets"):
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            yield Check(name, False, "not installed", "make setup, or pip install raybt")


def gpu() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:  # not there, or one of its libraries is not
        return Check("CUDA", False, f"unknown, torch does not load ({error})", "mend torch first", needed=False)
    if not torch.cuda.is_available():
        fix = "runs on the CPU as it is; for a GPU install its driver and a CUDA build of torch (pytorch.org)"
        return Check("CUDA", False, f"none that torch {torch.__version__} can see", fix, needed=False)
    cards = [torch.cuda.get_device_properties(card) for card in range(torch.cuda.device_count())]
    found = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    return Check("CUDA", True, f"{torch.version.cuda}: {found}")


def hub_token() -> Check:
    from huggingface_hub import get_token

    written = dotenv_values(".env").get("HF_TOKEN") if Path(".env").exists() else None
    source = "environment or login" if get_token() else ".env" if written else None
    fix = "only gated models need one: hf auth login, or HF_TOKEN=... in .env"
    return Check("Hugging Face token", source is not None, source or "none", fix, needed=False)


def disk() -> Check:
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    return Check("disk", free > LEAST_DISK_GB, f"{free:.0f} GB free here", f"free {LEAST_DISK_GB} GB, or set artifacts")


def smoke_test() -> Check:
    """Decode four rows under four conditions with the shipped model, as a replica would."""
    return attempt("smoke", _decode_four, "make setup; if that does not help, report what it says")


def attempt(name: str, action: Callable[[], str], fix: str) -> Check:
    try:
        return Check(name, True, action())
    except Exception as error:  # a doctor names every illness, whatever it is
        return Check(name, False, f"{type(error).__name__}: {str(error)[:300]}", fix)


def _decode_four() -> str:
    from raybt.engine.decode import Decoder
    from raybt.engine.load import load_model
    from raybt.engine.request import Request, Sampling, Term
    from raybt.toy import MODEL_DIR

    anatomy = load_model(str(MODEL_DIR))
    interventions = [(), (Term("mlp.3"),), (Term("attn.4"),), (Term("mlp.3", "scale", 0.5),)]
    rows = [Request(str(i), tuple(range(5, 25)), 16, 0, terms) for i, terms in enumerate(interventions)]
    done = list(Decoder(anatomy, Sampling(0.7), 16, 64).run(rows))
    if any(row.error for row in done):
        raise RuntimeError(next(row.error for row in done if row.error))
    return f"{len(done)} rows, {sum(len(row.token_ids) for row in done)} tokens on {anatomy.device}"
