"""Triton kernels for what plain torch does too slowly on a GPU. Each is tested against the plain way.

Loaded only where there is a GPU, or where TRITON_INTERPRET=1 runs them on the CPU.
"""

import importlib.util

HAVE_TRITON = importlib.util.find_spec("triton") is not None
