"""The decode step's attention on a CPU: attend.c, compiled in a fraction of a second when a model first needs it.

torch's own reads every slot to the longest one's length and makes a small product of its own for each slot and head: on
small models it took half the step. Where there is no C compiler, torch's is what remains.
"""

import ctypes
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("attend.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
LANES = 16  # heads are multiples of this wide
LIMIT_S = 60
POINTERS, NUMBERS = 6, 12


@dataclass(frozen=True)
class Kernel:
    """attend.c for one shape of heads.

    Args:
        run: its function `attend`.
        compiler: what compiled it.
    """

    run: Any
    compiler: str


@cache
def kernel(dim: int, group: int) -> Kernel | None:
    """The kernel for heads `dim` wide, `group` of them to a key head; None where it can't be had."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or dim % LANES or dim > 256 or group > LANES:
        return None
    with tempfile.TemporaryDirectory(prefix="raybt-kernel-") as folder:
        made = Path(folder) / "attend.so"  # loaded, it outlives its file
        command = [compiler, *FLAGS, f"-DDIM={dim}", f"-DGROUP={group}", str(SOURCE), "-o", str(made)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
            library = ctypes.CDLL(str(made))
        except (OSError, subprocess.SubprocessError):
            return None
    library.attend.argtypes = [ctypes.c_void_p] * POINTERS + [ctypes.c_int64] * NUMBERS + [ctypes.c_float]
    return Kernel(library.attend, ctypes.c_char_p.in_dll(library, "compiler").value.decode())


def fitting(query: Tensor, key: Tensor, value: Tensor) -> Kernel | None:
    """The kernel that takes these, if there is one. Shapes as in `attend_slots`."""
    if query.dtype != torch.float32 or query.device.type != "cpu" or key.shape != value.shape:
        return None
    if query.shape[3] != key.shape[3] or any(x.stride(3) != 1 for x in (query, key, value)):
        return None
    return kernel(query.shape[3], query.shape[1] // key.shape[1])


def attend_slots(
    made: Kernel, query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, scaling: float | None = None
) -> Tensor:
    """Softmax attention over each slot's positions from `first` to `last`. A row's bits depend on nothing but the row.

    Args:
        query: [slots, heads, 1, dim].
        key, value: [slots, kv heads, window, dim].
        first, last: [slots] int64, both included; beyond the window nothing is read.

    Returns:
        [slots, 1, heads, dim].
    """
    slots, heads, _, dim = query.shape
    out = torch.empty(slots, 1, heads, dim)
    pointers = [x.data_ptr() for x in (query, key, value, out, first, last)]
    strides = (*query.stride()[:2], *(x.stride(axis) for x in (key, value) for axis in (0, 2, 1)))
    scale = dim**-0.5 if scaling is None else scaling

    def part(begin: int, end: int) -> int:
        return made.run(*pointers, begin, end, *key.shape[1:3], *strides, scale)

    if any(_shared(part, slots)):
        raise RuntimeError("attention can't allocate memory for its scores")
    return out


def _shared(part: Any, slots: int) -> list[int]:
    """The slots cut into one part for each of torch's threads; a call of C leaves the others free to run."""
    threads = torch.get_num_threads()
    if threads == 1:
        return [part(0, slots)]
    cuts = [slots * i // threads for i in range(threads + 1)]
    return list(_pool(threads).map(part, cuts[:-1], cuts[1:]))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="attention")
