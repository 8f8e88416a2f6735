"""The draw in Triton against the plain way."""

from tests.engine.kernels.triton_here import interpreted, needs_triton

pytestmark = needs_triton

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
