"""Triton without a GPU: its interpreter runs a kernel, its compiler says what a card would get."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raybt.engine.kernels import HAVE_TRITON

ROOT = Path(__file__).parents[3]
needs_triton = pytest.mark.skipif(not HAVE_TRITON, reason="triton is not installed")
CARDS = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
"""Compute capability -> bytes of shared memory that one program may have (A100, L4 and RTX 4090, H100)."""

SCALARS = """
from triton.runtime import interpreter

stock = interpreter._patch_lang_tensor

def patched(tensor, *scope):
    stock(tensor, *scope)
    tensor.__index__ = lambda self: self.handle.data.item()

interpreter._patch_lang_tensor = patched
"""
"""Triton's interpreter up to 3.6 takes a loop's bounds from arrays of one element by `int`, which NumPy 2.5 refuses."""


def interpreted(program: str) -> str:
    """What a program prints whose kernels run in the interpreter; a process of its own, for it is set at import."""
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCALARS + program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout.strip()


EACH = """
import contextlib, io, json, torch, traceback
found = {}
for name, program in PROGRAMS.items():
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            torch.manual_seed(0)
            exec(compile(program, name, "exec"), dict(globals()))
        found[name] = printed.getvalue().strip()
    except Exception:
        found[name] = traceback.format_exc()
print(json.dumps(found))
"""


def each_interpreted(begin: str, **programs: str) -> dict[str, str]:
    """What each of some programs prints that all begin alike, or the traceback of what failed in it."""
    return json.loads(interpreted(f"{begin}\nPROGRAMS = {programs!r}\n{EACH}").splitlines()[-1])


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], capability: int, **options: int) -> Any:
    """A kernel compiled for a card that need not be there; `.metadata.shared` is its shared memory in bytes.

    Args:
        types: argument -> Triton's name of its type (`*bf16`, `i64`, `fp32`), constants left out; pointers and 32-bit
            integers are taken for multiples of 16, as real ones mostly are, and loads are then made wide and early.
        options: `num_warps`, `num_stages`, as at the launch.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    place = {name: (i,) for i, name in enumerate(kernel.arg_names)}
    even = {place[name]: [["tt.divisibility", 16]] for name, kind in types.items() if kind[0] == "*" or kind == "i32"}
    source = ASTSource(kernel, signature, {place[name]: value for name, value in constants.items()}, even)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
