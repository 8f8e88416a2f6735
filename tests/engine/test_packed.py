"""Packed products and the C attention: the same numbers as torch's own, and bits that depend on nothing but the row."""

import pytest
import torch
from torch import nn

from raybt.engine import packed as module
from raybt.engine.anatomy import dissect
from raybt.engine.decode import Decoder
from raybt.engine.kernels import native
from raybt.engine.load import numerics_class
from raybt.engine.packed import HAVE_PACKED, packable, packed, packs_of
from raybt.engine.request import Request, Sampling, Term
from raybt.engine.score import forced_logits
from tests.engine.families import family

needs_packed = pytest.mark.skipif(not HAVE_PACKED, reason="oneDNN packs no weights here")


@pytest.fixture
def model():
    return family("qwen2")


@needs_packed
@torch.inference_mode()
def test_the_same_products_whatever_the_number_of_rows(model):
    block, x = model.model.layers[0], torch.randn(400, 1, 48)
    for linear in (block.self_attn.q_proj, block.self_attn.k_proj, block.mlp.up_proj, model.lm_head):
        with packed(model):
            whole = linear(x)
            parts = {rows: linear(x[:rows].clone()) for rows in (16, 17, 32, 48, 64, 96, 399)}
        assert (whole - linear(x)).abs().max() < 1e-5
        assert all(torch.equal(part, whole[:rows]) for rows, part in parts.items())


@needs_packed
@torch.inference_mode()
def test_layers_that_read_one_tensor_are_one_product_and_others_are_not_mixed_up(model):
    attention, x, y = model.model.layers[0].self_attn, torch.randn(32, 48), torch.randn(32, 48)
    q, k = attention.q_proj, attention.k_proj
    with packed(model):
        found = [q(x), k(x), q(x), k(y), k(x), k(x)]
    for ours, (linear, read) in zip(found, [(q, x), (k, x), (q, x), (k, y), (k, x), (k, x)], strict=True):
        assert (ours - linear(read)).abs().max() < 1e-5
    assert all(pack.read is None and not pack.due for pack in packs_of(model))


@needs_packed
@torch.inference_mode()
def test_hooks_on_packed_layers_act_and_nothing_is_left_behind(model):
    linear, x = model.model.layers[1].mlp.down_proj, torch.randn(16, 64)
    handle = linear.register_forward_hook(lambda _m, _i, out: out * 2)
    with packed(model):
        doubled = linear(x)
    handle.remove()
    assert torch.allclose(doubled, 2 * linear(x), atol=1e-5)
    assert not any("forward" in part.__dict__ for part in model.modules())


@needs_packed
@torch.inference_mode()
def test_a_weight_that_changes_is_packed_again(model):
    x = torch.randn(16, 48)
    with packed(model):
        before = model.lm_head(x)
    model.lm_head.weight.mul_(2)
    with packed(model):
        assert torch.allclose(model.lm_head(x), 2 * before, atol=1e-5)
    model.lm_head.weight = nn.Parameter(torch.zeros_like(model.lm_head.weight), requires_grad=False)
    with packed(model):
        assert not model.lm_head(x).any()


@needs_packed
def test_tied_weights_stay_tied_and_what_is_too_large_or_no_fp32_stays_as_it_is(model, toy, monkeypatch):
    assert any(linear is toy.model.lm_head for pack in packs_of(toy.model) for linear in pack.linears)
    assert toy.model.lm_head.weight is toy.model.model.embed_tokens.weight
    assert packable(family("gpt2")) and all(type(one) is nn.Linear for group in packable(model) for one in group)
    assert packable(family("qwen2").bfloat16()) == []
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert packable(model) == []


def test_without_packing_and_without_a_compiler_the_logits_are_those_of_torch(toy, prompts, monkeypatch):
    row = Request("row", prompts[0], 20, terms=(Term("mlp.3", "scale", 0.5),))
    tokens = {"row": tuple(range(30, 50))}
    ours, here = forced_logits(toy, [row], tokens, 32)["row"], numerics_class(toy, 32)
    monkeypatch.setattr(module, "HAVE_PACKED", False)
    monkeypatch.setattr(module, "_OF", type(module._OF)())
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    native.kernel.cache_clear()
    try:
        assert numerics_class(toy, 32).split("|")[2:4] == ["sdpa", "linear=torch"]
        assert 0 < (forced_logits(toy, [row], tokens, 32)["row"] - ours).abs().max() < 1e-4 or "c/" not in here
    finally:
        native.kernel.cache_clear()


def kernel(dim, group):
    made = native.kernel(dim, group)
    return made or pytest.skip("no C compiler")


@pytest.mark.parametrize(("dim", "group"), [(16, 1), (32, 2), (64, 5), (80, 3), (128, 7), (256, 2)])
@pytest.mark.parametrize("sliding", [None, 20])
def test_the_kernels_attention_equals_the_definition(dim, group, sliding):
    made, slots, kv, window = kernel(dim, group), 6, 2, 144
    generator = torch.Generator().manual_seed(dim)
    store = torch.randn(2, slots, window + 32, kv, dim, generator=generator)
    keys, values = store[:, :, :window].transpose(2, 3)
    query = 2 * torch.randn(slots, kv * group, 1, dim, generator=generator)
    last = torch.tensor([0, 15, 16, 63, 143, 170])  # the last slot is out of use and stands beyond the window
    first = torch.zeros_like(last) if sliding is None else (last - sliding + 1).clamp(min=0)
    ours = native.attend_slots(made, query, keys, values, first, last)
    ahead = torch.arange(window)
    seen = ((ahead <= last[:, None]) & (ahead >= first[:, None]))[:-1]
    scores = (query @ keys.repeat_interleave(group, 1).transpose(2, 3)).double()[:-1] * dim**-0.5
    weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
    expected = (weights @ values[:-1].double().repeat_interleave(group, 1)).transpose(1, 2)
    assert (ours[:-1] - expected).abs().max() < 2e-6


def test_a_slots_bits_depend_on_nothing_but_the_slot(monkeypatch):
    made, store = kernel(32, 2), torch.randn(2, 48, 96, 2, 32)
    query, last = torch.randn(48, 4, 1, 32), torch.randint(0, 90, (48,))
    first = torch.zeros_like(last)
    keys, values = store.transpose(2, 3)
    whole = native.attend_slots(made, query, keys, values, first, last)
    order = torch.randperm(48)
    moved = native.attend_slots(made, query[order], keys[order], values[order], first[order], last[order])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    shared = native.attend_slots(made, query, keys, values, first, last)
    alone = native.attend_slots(made, query[7:8], keys[7:8], values[7:8], first[7:8], last[7:8])
    assert torch.equal(moved, whole[order]) and torch.equal(shared, whole) and torch.equal(alone[0], whole[7])


def test_a_slot_of_nans_spoils_itself_alone_and_far_scores_do_no_harm():
    made, store, query = kernel(16, 1), torch.randn(2, 3, 32, 1, 16), torch.randn(3, 1, 1, 16)
    store[0, 1, 3], query[2] = torch.nan, 1e4 * query[2]
    out = native.attend_slots(made, query, *store.transpose(2, 3), torch.zeros(3).long(), torch.full((3,), 20))
    assert out[1].isnan().all() and out[0].isfinite().all() and out[2].isfinite().all()


def test_a_model_whose_weights_are_packed_writes_what_any_number_of_slots_writes(toy, prompts):
    rows = [Request(f"{i}", prompts[i % 8], 20, i, (Term(f"mlp.{i % 6}", "scale", 0.5),)) for i in range(24)]

    def written(slots):
        decoder = Decoder(toy, Sampling(0.7), slots, 256)
        try:
            return {done.key: done.token_ids for done in decoder.run(rows)}
        finally:
            decoder.close()

    assert written(16) == written(64) == written(96)


def test_heads_that_no_kernel_fits_take_torchs_attention():
    anatomy = dissect(family("qwen2"))  # heads of 12
    assert anatomy.head_width == 12 and native.kernel(12, 2) is None
    assert numerics_class(anatomy, 16).split("|")[2] == "sdpa"
