"""The decode step's small kernels against torch and against the modules of transformers."""

import pytest

from tests.engine.kernels.triton_here import CARDS, compiled, each_interpreted, needs_triton

pytestmark = needs_triton

ROUNDED = """
import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

cut = interpreter._convert_float

def rounded(given, kind, wanted, mode):
    if (kind, wanted) != (tl.float32, tl.bfloat16):
        return cut(given, kind, wanted, mode)
    bits = np.frombuffer(given.tobytes(), np.uint32).astype(np.uint64).reshape(given.shape)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)

interpreter._convert_float = rounded
torch.manual_seed(0)

def steps_apart(a, b):  # numbers of a 16-bit type between two, at most
    a, b = (x.view(torch.int16).int() for x in (a.contiguous(), b.contiguous()))
    a, b = (torch.where(x < 0, -32768 - x, x) for x in (a, b))
    return (a - b).abs().max().item()
"""
"""Triton's interpreter cuts float32 to bfloat16, where GPUs and torch round to the nearest even one."""

NORM = """
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from raybt.engine.kernels.norm import add_norm

for kind in (torch.float32, torch.bfloat16):
    for width in (48, 1536):
        module = Qwen2RMSNorm(width, 1e-5).to(kind)
        module.weight.data.normal_()
        x, residual = (3 * torch.randn(5, 1, width, dtype=kind) for _ in range(2))
        apart = torch.randn(5, 1, 2 * width, dtype=kind)[..., :width]  # rows further apart
        for first, second in ((x, residual), (x, None), (apart, residual), (x, apart)):
            normed, total = add_norm(first, second, module.weight, 1e-5)
            summed = first if second is None else first + second
            assert torch.equal(total, summed) and normed.dtype == kind and normed.shape == x.shape
            plain = module(summed)
            if kind == torch.bfloat16:
                assert steps_apart(normed, plain) <= 1, (width, steps_apart(normed, plain))
            else:
                torch.testing.assert_close(normed, plain, rtol=1e-6, atol=1e-6)
print("same")
"""

GATED = """
from raybt.engine.kernels.gated import silu_product

for kind in (torch.float32, torch.bfloat16, torch.float16):
    for shape in ((3, 1, 96), (2, 2, 1536), (9, 48), (1, 1, 3000)):
        wide = 4 * torch.randn(*shape[:-1], 2 * shape[-1] + 16).to(kind)
        for both in (wide[..., :-16], wide[..., :-16].contiguous()):
            gate, up = both.chunk(2, -1)
            ours, plain = silu_product(both), torch.nn.functional.silu(gate) * up
            assert ours.shape == plain.shape and ours.dtype == kind
            if kind == torch.float32:
                torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6)
            else:  # its exponential differs from torch's in a float32's last bits, which may tip a rounding
                assert steps_apart(ours, plain) <= 2 and (ours != plain).sum() <= 2 + ours.numel() / 1000, (kind, shape)
print("same")
"""

ROTATED = """
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from raybt.engine.kernels.rotate import rotate_and_write, write

slots, heads, kv, length = 3, 6, 2, 32
places = torch.arange(slots) * length + torch.tensor([0, 31, 7])
for kind in (torch.float32, torch.bfloat16, torch.float16):
    for dim in (16, 80, 128):
        for angles in (slots, 1):
            merged = torch.randn(slots, 1, (heads + 2 * kv) * dim).to(kind)
            parts = merged.split([heads * dim, kv * dim, kv * dim], -1)
            query, key, value = (part.view(slots, 1, -1, dim).transpose(1, 2) for part in parts)
            cos, sin = torch.rand(2, angles, 1, dim).mul(7).cos().to(kind), torch.rand(2, angles, 1, dim).to(kind)
            cos, sin = cos[0], sin[0]
            stores = torch.randn(3, 2, slots, length, kv, dim).to(kind)  # one of several layers
            plain = stores.clone()
            turned = rotate_and_write(query, key, value, cos, sin, *stores[1], places)
            expected, turned_key = apply_rotary_pos_emb(query, key, cos, sin)
            for store, new in zip(plain[1], (turned_key, value)):
                store.flatten(0, 1).index_copy_(0, places, new.squeeze(2))
            assert turned.is_contiguous() and torch.equal(turned, expected) and torch.equal(stores, plain), (kind, dim)
            narrow = torch.randn(2, slots, length, kv, dim + 8).to(kind)  # values narrower than the store's rows
            keys, values = narrow[0], narrow[1][..., : dim - 4]
            plain = narrow.clone()
            key = torch.randn(slots, kv, 1, dim + 8).to(kind)
            write(key, value[..., : dim - 4], keys, values, places)
            plain[0].flatten(0, 1).index_copy_(0, places, key.squeeze(2))
            plain[1].flatten(0, 1)[..., : dim - 4].index_copy_(0, places, value.squeeze(2)[..., : dim - 4])
            assert torch.equal(narrow, plain)
print("same")
"""

ACTED = """
from types import SimpleNamespace

from raybt.engine.bank import Bank
from raybt.engine.hooks import Hooks
from raybt.engine.kernels.act import act
from raybt.engine.request import Term

def point_of(name, heads):
    module, sites = torch.nn.Identity(), [f"{name}{head}" for head in range(heads)]
    return SimpleNamespace(name=name, heads=heads, module=module, side="output", sites=sites)

def anatomy_of(*points):
    sites = [site for point in points for site in point.sites]
    return SimpleNamespace(device=torch.device("cpu"), points=points, sites=sites)

TERMS = [("scale", 0.5), ("zero", 1.0), ("add", 2.0, "one"), ("project_out", 1.0, "one"), ("clamp", 1.5, "one"),
         ("mean", 0.7, "one"), ("resample", 1.0, "many"), None]
NEAR = {torch.float32: (1e-6, 1e-5), torch.bfloat16: (1 / 128, 1e-5), torch.float16: (1 / 1024, 1e-5)}
slots = 3 * len(TERMS)  # on, off, on
gate = torch.arange(slots) // len(TERMS) != 1
draws = torch.randint(0, 1 << 62, (slots,))
for kind, near in NEAR.items():
    for heads, part, terms in ((1, 48, TERMS), (4, 40, TERMS), (4, 32, [TERMS[0], TERMS[1], None])):
        bank = Bank({"one": torch.randn(part), "many": torch.randn(7, part), "wide": torch.randn(64)})
        point = point_of("here", heads)
        rows = [[Term(site, *terms[(slot + 3 * head) % len(terms)]) for head, site in enumerate(point.sites)
                 if terms[(slot + 3 * head) % len(terms)]] for slot in range(slots)]
        x = torch.randn(slots, 1, heads * part).to(kind)
        x[:, 0, 3] = -0.0
        plain, ours = (Hooks(anatomy_of(point_of("before", 3), point), slots, bank, kernel) for kernel in (False, True))
        for hooks in (plain, ours):
            hooks.assign_all(rows)
            hooks.arm(gate, draws)
        for step in range(2):
            expected, y = (hooks._apply(point, x, hooks.now) for hooks in (plain, ours))
            assert y.shape == x.shape and y.dtype == kind and y.data_ptr() != x.data_ptr()
            assert torch.equal(y[~gate].view(torch.int8), x[~gate].view(torch.int8))
            torch.testing.assert_close(y, expected, rtol=near[0], atol=near[1])
            sure = (ours.wanted.pull == 0).all(0)  # where x.v counts, its sum is in another order
            assert torch.equal(y[sure], expected[sure]) and sure.any()
            assert torch.equal(ours.now.touched, plain.now.touched), "counts"
        assert ours.now.touched.any() and ("here" in ours.awake.directed) == (len(terms) > 3)

# without a gate and without draws, as in a prompt
flat, touched = torch.randn(3, 8), torch.zeros(1, 3, dtype=torch.int32)
gain, push, pull = torch.tensor([[[1.0, 0.5, 1.0]], [[0.0, 0.0, 2.0]], [[0.0, 0.0, 0.0]]])
vector, spread, bank = torch.tensor([[0, 0, 1]]), torch.tensor([[1, 1, 2]]), torch.randn(3, 8)
args = gain, push, pull, vector, spread
y = act(flat, *args, None, None, bank, touched, 1, True)
assert torch.equal(y, torch.stack([flat[0], 0.5 * flat[1], flat[2] + 2 * bank[1]])), "no gate"
assert touched.tolist() == [[0, 1, 1]]
y = act(flat, *args, torch.tensor([5, 5, -1]), None, bank, touched, 1, True)
assert torch.equal(y[2], flat[2] + 2 * bank[2]) and touched.tolist() == [[0, 2, 2]], "a negative draw"
y = act(flat, *args, None, None, bank, touched, 1, False)
assert torch.equal(y, flat * gain.T) and touched.tolist() == [[0, 3, 2]], "not directed"
print("same")
"""


@pytest.fixture(scope="module")
def told():
    """What each program prints, or why it failed; one process runs them all, for each would take seconds to start."""
    return each_interpreted(ROUNDED, norm=NORM, gated=GATED, rotate=ROTATED, act=ACTED)


@pytest.mark.parametrize("kernel", ["norm", "gated", "rotate", "act"])
def test_a_kernel_computes_what_the_stock_modules_do(told, kernel):
    assert told[kernel] == "same"


BFLOATS = "query key value cos sin out all_keys all_values both x_ptr y_ptr residual weight normed total"


@pytest.mark.parametrize("capability", CARDS)
def test_the_kernels_compile_and_fit(capability):
    from raybt.engine.kernels import act, gated, norm, rotate

    types = dict.fromkeys(BFLOATS.split(), "*bf16") | dict.fromkeys(("gain", "push", "pull", "bank"), "*fp32")
    types |= dict.fromkeys(("places", "vector", "spread", "draws"), "*i64")
    types |= {"gate": "*i1", "touched": "*i32", "eps": "fp32"}
    widths = [{"WIDTH": width, "BLOCK": block} for width, block in ((1536, 2048), (8960, 16384))]
    acts = [{"PART": at["WIDTH"], "BLOCK": at["BLOCK"], "DIRECTED": way} for at in widths for way in (True, False)]
    plans = [(norm._add_norm, fixed, min(16, fixed["BLOCK"] // 256)) for fixed in widths]
    plans += [(norm._add_norm, widths[0] | {"residual": None, "total": None}, 8)]
    plans += [(gated._silu_product, {"BLOCK": gated.BLOCK, "FAST": False}, 4)]
    plans += [(rotate._rotate_and_write, {"DIM": 128, "HALF": 64}, 1)]
    plans += [(rotate._write, {"DIM": 192, "WIDTH": 128, "DIMS": 256, "WIDTHS": 128}, 1)]
    plans += [(act._act, fixed, min(16, fixed["BLOCK"] // 256)) for fixed in acts]
    plans += [(act._act, {"PART": 128, "BLOCK": 128, "DIRECTED": True, "gate": None, "draws": None}, 1)]
    for kernel, fixed, warps in plans:
        names = [name for name in kernel.arg_names if name not in fixed]
        own = {name: types.get(name, "i32") for name in names}
        made = compiled(kernel, own, fixed, capability, num_warps=warps, enable_fp_fusion=False)
        assert made.metadata.shared <= CARDS[capability]
