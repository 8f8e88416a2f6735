"""Fused steps: the stock step's tokens, on the path that a GPU takes, in Triton's interpreter."""

import json
from contextlib import suppress
from functools import partial

import pytest
import torch

from raybt.engine.anatomy import dissect
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.fusion import Merged, fused, swaps_of
from raybt.engine.request import Request, Sampling, Term
from raybt.engine.wiring import with_fusion
from tests.engine.families import family
from tests.engine.kernels.triton_here import interpreted, needs_triton

WIDTH = 48
VECTORS = {"v": torch.linspace(-1, 1, WIDTH), "table": torch.linspace(-2, 1, 5 * WIDTH).reshape(5, WIDTH)}
TRIGGERS = ((7, 9), (30,))
INTERVENTIONS = [
    (),
    (Term("mlp.1"),),
    (Term("attn.0", "add", 1.0, "v"), Term("head.1.2", "scale", 0.5)),
    (Term("resid.0", "project_out", 1.0, "v"),),
    (Term("mlp.2", "resample", 1.0, "table"),),
]
POLICIES = ("decode", "generated", "all", "after_trigger")


def rows(count=18):
    """Few and short ones: the interpreter takes about a millisecond for each program of a kernel.

    More than 16 refill a slot.
    """
    return [
        Request(
            str(i), tuple(range(3, 6 + i % 7)), 2 + i % 2, i, INTERVENTIONS[i % 5], POLICIES[i // 5 % 4], window=(0, 4)
        )
        for i in range(count)
    ]


def written(name, fusion=None):
    """Tokens, receipts and errors of every row, and how they were computed."""
    anatomy = with_fusion(dissect(family(name)))
    rule = Sampling(0.8, greedy=name != SAMPLED)
    decoder = Decoder(anatomy, rule, 16, 32, Bank(VECTORS), TRIGGERS, fusion)
    done = {
        row.key: [list(row.token_ids), row.receipt, row.error]
        for row in decoder.run(rows(18 if name in REFILLED else 16))
    }
    how = {
        "notes": [*anatomy.notes, *decoder.notes],
        "fusion": decoder.fusion,
        "unmasked": decoder.unmasked is not None,
        "kernel": decoder.hooks.kernel,
    }
    decoder.close()
    return done, how


PROGRAM = """
import json, sys, torch
torch.set_num_threads(1)
from tests.engine.test_fusion import written
print(json.dumps({name: written(name) for name in ("qwen3", "gpt_neox", "gemma2")}))

import raybt.engine.kernels.gated as gated
from raybt.engine.anatomy import dissect
from raybt.engine.wiring import with_fusion
from tests.engine.families import family

right, wrong = gated.silu_product, []
for broken in (lambda both: right(both) * 1.5, lambda both: 1 / 0):
    gated.silu_product = broken
    made = with_fusion(dissect(family("qwen2")))
    wrong.append(f"{made.fusion} {made.notes}")
print(json.dumps(wrong))
"""
SAMPLED = "qwen3"  # the draw's own kernel is slow in the interpreter
REFILLED = ("qwen2", "gpt_neox")
EXPECTED = {  # heads of 12 are too narrow for the attention kernel; Gemma 2's attention is its own
    "qwen3": ("kernels", True),
    "gpt_neox": ("kernels", False),
    "gemma2": ("kernels", False),
}


@pytest.fixture(scope="module")
def on_gpus_path():
    """What each family writes there, and what becomes of a kernel that is wrong or breaks: one process for all."""
    return [json.loads(line) for line in interpreted(PROGRAM).splitlines()[-2:]]


@needs_triton
@pytest.mark.parametrize("name", EXPECTED)
def test_a_gpus_path_writes_and_counts_what_the_plain_one_does(on_gpus_path, name):
    ours, how = on_gpus_path[0][name]
    assert ours == written(name, "none")[0]
    assert how["kernel"] and how["notes"] == [], how
    assert (how["fusion"], how["unmasked"]) == EXPECTED[name]


@needs_triton
def test_a_fused_step_that_is_wrong_or_breaks_is_not_used_and_the_run_says_why(on_gpus_path):
    wrong, broken = on_gpus_path[1]
    assert wrong.startswith("none (") and "off the stock step's" in wrong
    assert broken.startswith("none (") and "division by zero" in broken


def test_where_no_kernel_runs_steps_are_stock_and_a_decoder_told_otherwise_says_so():
    anatomy = dissect(family("qwen2"))
    assert with_fusion(anatomy) is anatomy
    done, how = written("qwen2", "kernels")
    assert how["fusion"] == "none" and "need a GPU and Triton" in how["notes"][0]
    assert done == written("qwen2", "none")[0]


def test_merged_layers_share_their_memory_and_give_each_layers_output():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, width) for width in (4, 2, 2)]
    x = torch.randn(3, 8)
    expected = [layer(x) for layer in layers]
    merged = Merged(layers)
    assert all(torch.allclose(merged.one(i, x), one, atol=1e-6) for i, one in enumerate(expected))
    assert all(torch.equal(layer(x), layer(x)) and layer.weight._base is None for layer in layers)
    pointers = [layer.weight.data_ptr() for layer in layers]
    assert pointers == [merged.weight[start].data_ptr() for start in (0, 4, 6)]


def test_what_is_exchanged_goes_back_when_a_step_ends_or_breaks():
    swaps = swaps_of(family("qwen2"), "kernels")
    assert {name for _, name, _ in swaps} == {"forward", "apply_rotary_pos_emb"}
    before = [where.get(name) for where, name, _ in swaps]
    with fused(swaps):
        assert all(where[name] is made for where, name, made in swaps)
    with suppress(ZeroDivisionError), fused(swaps):
        raise ZeroDivisionError
    assert [where.get(name) for where, name, _ in swaps] == before


def test_a_compiled_pass_writes_what_the_stock_one_does(monkeypatch):
    traced = partial(torch.compile, backend="aot_eager")  # without code for it: seconds, not minutes
    monkeypatch.setattr(torch, "compile", traced)
    done, how = written("qwen2", "compiled")
    assert how["fusion"] == "compiled" and done == written("qwen2", "none")[0]
