"""C kernels for the CPU, compiled in a fraction of a second when they are first needed, or done without."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")
LIMIT_S = 60


@dataclass(frozen=True)
class Kernel:
    """A compiled function, which gives 0 or 1: memory ran out.

    Args:
        compiler: what compiled it.
    """

    run: Any
    compiler: str


def built(name: str, types: str, **defines: int) -> Kernel | None:
    """The function `name` of `name.c`; None where it can't be compiled.

    Args:
        types: of its arguments, a letter each: p for a pointer, i for int64, f for float.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="raybt-kernel-") as folder:
        made = Path(folder) / f"{name}.so"  # loaded, it outlives its file
        command = [compiler, *FLAGS, *(f"-D{key}={value}" for key, value in defines.items())]
        try:
            subprocess.run(
                [*command, str(FOLDER / f"{name}.c"), "-o", str(made)], check=True, capture_output=True, timeout=LIMIT_S
            )
            library = ctypes.CDLL(str(made))
        except (OSError, subprocess.SubprocessError):
            return None
    run = getattr(library, name)
    run.argtypes = [{"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}[letter] for letter in types]
    version = ctypes.c_char_p.in_dll(library, "compiler").value
    return Kernel(run, version.decode() if version else "unknown")


def shared(part: Callable[[int, int], int], rows: int) -> None:
    """Run `part(begin, end)` over rows, a share of them for each of torch's threads; a call of C holds up no other."""
    threads = torch.get_num_threads()
    cuts = [rows * i // threads for i in range(threads + 1)]
    parts = [part(0, rows)] if threads == 1 else _pool(threads).map(part, cuts[:-1], cuts[1:])
    if any(parts):
        raise RuntimeError("a kernel can't allocate memory for its scores")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")
