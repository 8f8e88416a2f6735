"""The Triton kernels against the plain way, in Triton's interpreter: a process of its own, for it is set at import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raybt.engine.kernels import HAVE_TRITON

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not HAVE_TRITON, reason="triton is not installed")


def interpreted(program: str) -> str:
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCALARS + program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout.strip()


SCALARS = """
from triton.runtime import interpreter

stock = interpreter._patch_lang_tensor

def patched(tensor, *scope):
    stock(tensor, *scope)
    tensor.__index__ = lambda self: self.handle.data.item()

interpreter._patch_lang_tensor = patched
"""
"""Triton's interpreter up to 3.6 takes a loop's bounds from arrays of one element by `int`, which NumPy 2.5 refuses."""

SAMPLE = """
import torch
from raybt.engine.kernels.sample import sample
from raybt.engine.noise import exponential, words
from raybt.engine.request import Sampling
from raybt.engine.sampling import choose

vocabulary, rows = 1100, 8
logits = 2.5 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))
streams = [(i * 0x9E3779B97F4A7C15 + 5) % 2**64 for i in range(rows)]
steps = [i * 7 for i in range(rows)]
noise = torch.cat([exponential(words(s, t, vocabulary)) for s, t in zip(streams, steps)])
signed = torch.tensor([s - 2**64 if s >> 63 else s for s in streams])
for top_p in (0.3, 0.95, 1.0):
    for top_k in (0, 5):
        rule = Sampling(0.8, top_p, top_k)
        ours, usable = sample(logits, rule, signed, torch.tensor(steps))
        assert usable.all() and torch.equal(ours, choose(logits.clone(), rule, noise.clone())[0]), (top_p, top_k)
broken = logits[:3].clone()
broken[0, 7], broken[1, 9] = float("nan"), float("inf")
print(sample(broken, Sampling(top_p=0.9), signed[:3], torch.zeros(3, dtype=torch.long))[1].tolist())
"""


def test_the_kernel_draws_the_tokens_of_the_plain_way_and_flags_bad_logits():
    assert interpreted(SAMPLE) == "[False, False, True]"


ATTEND = """
import torch
from raybt.engine.kernels.attend import attend_slots

torch.manual_seed(0)
slots, kv, group, dim, length = 5, 2, 6, 32, 150
store = torch.randn(2, slots, length, kv, dim)
keys, values = store.transpose(2, 3)
query, positions = torch.randn(slots, kv * group, 1, dim), torch.tensor([0, 17, 63, 64, 149])
worst = 0.0
for softcap in (None, 5.0):
    for sliding in (None, 20):
        first = (positions - ((sliding or length) - 1)).clamp(min=0)
        ours = attend_slots(query, keys, values, positions, first, None, softcap)
        ahead = torch.arange(length)
        seen = ahead <= positions[:, None]
        if sliding:
            seen &= ahead > positions[:, None] - sliding
        scores = query @ keys.repeat_interleave(group, 1).transpose(2, 3) * dim**-0.5
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
        expected = (weights @ values.repeat_interleave(group, 1)).transpose(1, 2)
        worst = max(worst, float((ours - expected).abs().max()))
assert worst < 1e-5, worst
print("equal")
"""


def test_the_kernels_attention_equals_the_definition():
    assert interpreted(ATTEND) == "equal"
