"""The decode step's attention in Triton against the definition."""

from tests.engine.kernels.triton_here import interpreted, needs_triton

pytestmark = needs_triton

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
