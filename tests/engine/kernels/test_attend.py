"""The decode step's attention in Triton: against the definition, whatever lies beside a row, and on three cards."""

import pytest

from tests.engine.kernels.triton_here import CARDS, compiled, each_interpreted, needs_triton

pytestmark = needs_triton

ATTEND = """
import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from raybt.engine.kernels.attend import SPAN, attend_slots, fits

dot = interpreter.InterpreterBuilder.create_dot

def wide(x):
    if x.dtype.scalar != tl.bfloat16:
        return x
    data = interpreter._convert_float(x.data, tl.bfloat16, tl.float32, None)
    return interpreter.TensorHandle(data.view(np.float32), tl.float32)

interpreter.InterpreterBuilder.create_dot = lambda self, a, b, *more: dot(self, wide(a), wide(b), *more)

def drawn(slots, kv, group, dim, length, dtype=torch.float32):
    keys, values = torch.randn(2, slots, length, kv, dim).to(dtype).transpose(2, 3)
    return torch.randn(slots, kv * group, 1, dim).to(dtype), keys, values


def defined(query, keys, values, positions, first, softcap):
    group, ahead = query.shape[1] // keys.shape[1], torch.arange(keys.shape[2])
    seen = ahead <= positions[:, None]
    if first is not None:
        seen &= ahead >= first[:, None]
    scores = query @ keys.repeat_interleave(group, 1).transpose(2, 3) * query.shape[-1] ** -0.5
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
    return (weights @ values.repeat_interleave(group, 1)).transpose(1, 2)


def far(ours, expected, most=1e-5):
    worst = float((ours - expected).abs().max())
    return [] if worst < most else [worst]
"""
"""The interpreter's product takes the bits of bfloat16 for whole numbers."""

DEFINITION = """
wrong = []
# rows that end and begin at, before and after the cuts of blocks and of spans
positions = torch.tensor([0, 17, 63, 64, SPAN - 1, SPAN, 2 * SPAN - 1, 2 * SPAN + 40])
query, keys, values = drawn(len(positions), 2, 6, 32, 2 * SPAN + 41)
for softcap in (None, 5.0):
    for width in (None, 1, 20, SPAN, SPAN + 1):
        first = None if width is None else (positions - (width - 1)).clamp(min=0)
        ours = attend_slots(query, keys, values, positions, first, None, softcap)
        wrong += far(ours, defined(query, keys, values, positions, first, softcap))

# a head to itself, sixteen to a key head, a head of 16; within one span
for kv, group, dim in ((3, 1, 64), (1, 16, 16)):
    query, keys, values = drawn(2, kv, group, dim, 90)
    positions = torch.tensor([40, 89])
    wrong += far(attend_slots(query, keys, values, positions), defined(query, keys, values, positions, None, None))

# Qwen2 1.5B's heads in bf16, whose weights and sums are rounded to 8 bits
query, keys, values = drawn(2, 2, 6, 128, 600, torch.bfloat16)
positions = torch.tensor([255, 599])
exact = defined(query.float(), keys.float(), values.float(), positions, None, None)
wrong += far(attend_slots(query, keys, values, positions).float(), exact, 2**-8)
print(wrong)
"""

BESIDE = """
positions = torch.tensor([5, 200, SPAN - 1, SPAN + 30])
query, keys, values = drawn(4, 2, 2, 16, 2 * SPAN)
together = attend_slots(query, keys, values, positions)
for slot, own in enumerate(positions):  # what other rows, and earlier ones in the slot, left behind is not read
    keys[slot, :, own + 1 :] = values[slot, :, own + 1 :] = torch.nan
again = attend_slots(query, keys, values, positions)
print(torch.equal(together, again))
alone = [attend_slots(query[s : s + 1], keys[s : s + 1], values[s : s + 1], positions[s : s + 1]) for s in range(4)]
print(torch.equal(together, torch.cat(alone)))
short = attend_slots(query[:3], keys[:3, :, :SPAN], values[:3, :, :SPAN], positions[:3])
print(torch.equal(together[:3], short))  # one span, written at once, or two that are joined
keys[1, :, 100] = torch.nan
print(attend_slots(query, keys, values, positions).isnan().flatten(1).any(1).tolist())
"""


FITS = """
def shapes(heads, kv, dim, width=None):
    return torch.empty(2, heads, 1, dim), torch.empty(2, kv, 8, dim), torch.empty(2, kv, 8, width or dim)

print(fits(*shapes(12, 2, 128)), fits(*shapes(16, 1, 64)))
narrow, loose = shapes(12, 2, 96), [x.transpose(2, 3).contiguous().transpose(2, 3) for x in shapes(4, 2, 64)]
mixed = [x.to(dtype) for x, dtype in zip(shapes(4, 2, 64), (torch.float32, torch.bfloat16, torch.bfloat16))]
refused = [narrow, shapes(12, 2, 192, 128), shapes(34, 2, 64), shapes(4, 2, 8), loose, mixed]
print(*[fits(*given) for given in refused])
"""


@pytest.fixture(scope="module")
def told():
    """What each program prints, or why it failed; one process runs them all, for each would take seconds to start."""
    return each_interpreted(ATTEND, definition=DEFINITION, beside=BESIDE, fits=FITS)


def test_attention_equals_the_definition(told):
    assert told["definition"] == "[]"


def test_what_it_takes(told):
    assert told["fits"].splitlines() == ["True True", "False False False False False False"]


def test_a_rows_bits_are_its_own(told):
    assert told["beside"].splitlines() == ["True", "True", "True", "[False, True, False, False]"]


TYPES = dict.fromkeys(("positions", "first"), "*i64") | dict.fromkeys(("scale", "softcap"), "fp32")
STRIDES = ("q_slot", "q_head", "k_slot", "k_head", "k_token", "v_slot", "v_head", "v_token", "group", "spans")


@pytest.mark.parametrize("capability", CARDS)
@pytest.mark.parametrize(("dtype", "size"), [("bf16", 2), ("fp32", 4)])
def test_it_compiles_within_each_cards_shared_memory(dtype, size, capability):
    from raybt.engine.kernels import attend

    for dim in (64, 128, 256):
        block, stages = attend.tile(dim, size, CARDS[capability])
        types = TYPES | dict.fromkeys(("query", "keys", "values"), f"*{dtype}") | dict.fromkeys(STRIDES, "i32")
        types |= dict.fromkeys(("out", "weight"), "*fp32")
        constants = {"HEADS": 16, "DIM": dim, "ROWS": attend.ROWS, "BLOCK": block, "SPAN": attend.SPAN}
        made = compiled(
            attend._attend, types, constants | {"FROM": True, "JOINED": True}, capability, num_stages=stages
        )
        bound = attend.shared_bytes(dim, size, block, stages)
        assert bound - 64 <= made.metadata.shared <= bound <= CARDS[capability]
    types = {"parts": "*fp32", "weight": "*fp32", **TYPES, "out": f"*{dtype}", "spans": "i32"}
    del types["scale"], types["softcap"]
    joined = compiled(
        attend._join, types, {"HEADS": 16, "DIM": 256, "SPAN": attend.SPAN, "FROM": True}, capability, num_warps=1
    )
    assert joined.metadata.shared <= 1024


def test_what_has_no_tile_is_left_to_torch():
    from raybt.engine.kernels.attend import tile

    assert tile(128, 2, CARDS[90]) == (64, 3) and tile(128, 2, CARDS[89]) == (64, 2)
    assert tile(256, 4, CARDS[89]) == (16, 2) == tile(512, 4, CARDS[89])
    assert tile(1024, 4, CARDS[89]) is None
