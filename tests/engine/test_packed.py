"""Products with packed weights: the same numbers as torch's own, and bits that depend on nothing but the row."""

from weakref import WeakKeyDictionary

import pytest
import torch
from torch import nn

from raybt.engine import packed as module
from raybt.engine.anatomy import dissect
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.load import numerics_class
from raybt.engine.packed import HAVE_PACKED, independent, packable, packed, packs_of
from raybt.engine.probe.scan import read_rows
from raybt.engine.probe.shared import prefilled_text
from raybt.engine.request import Request, Sampling, Term
from tests.engine.families import family

needs_packed = pytest.mark.skipif(not HAVE_PACKED, reason="oneDNN packs no weights here")


@pytest.fixture
def model():
    return family("qwen2")


@pytest.fixture
def trusted(monkeypatch):
    """Layers are packed also where the trial would leave them as they are."""
    monkeypatch.setattr(module, "independent", lambda *shape: True)


def parts_of(product, x):
    """Number of rows -> the product of that many."""
    return {rows: product(x[:rows].clone()) for rows in (*range(16, 33), 48, 64, 96, 399)}


@torch.inference_mode()
def test_the_same_products_whatever_the_number_of_rows(model):
    """Packed or, where the trial leaves them as they are, torch's own."""
    block, x = model.model.layers[0], torch.randn(400, 1, 48)
    for linear in (block.self_attn.q_proj, block.self_attn.k_proj, block.mlp.up_proj, model.lm_head):
        with packed(packs_of(model)):
            whole, parts = linear(x), parts_of(linear, x)
        assert (whole - linear(x)).abs().max() < 1e-5
        assert all(torch.equal(part, whole[:rows]) for rows, part in parts.items())


@needs_packed
@pytest.mark.parametrize("shape", [(48, 96), (64, 48), (128, 600), (384, 128), (896, 1024)])
@pytest.mark.usefixtures("trusted")
def test_the_trial_finds_what_a_search_among_more_numbers_of_rows_finds(shape):
    linear = nn.Linear(*shape).requires_grad_(False)
    (pack,), x = packs_of(nn.Sequential(linear)), torch.randn(400, shape[0])
    with torch.inference_mode(), packed([pack]):
        whole, parts = linear(x), parts_of(linear, x)
    same = all(torch.equal(part, whole[:rows]) for rows, part in parts.items())
    assert independent(*shape, torch.get_num_threads()) == same


@needs_packed
def test_one_layer_that_fails_its_trial_leaves_all_as_they_are_and_the_numerics_class_says_so(model, monkeypatch):
    anatomy = dissect(model)
    monkeypatch.setattr(module, "independent", lambda *shape: True)
    assert "linear=packed" in numerics_class(anatomy, 16)
    monkeypatch.setattr(module, "independent", lambda width, outputs, threads: (width, outputs) != (64, 48))
    assert packable(model) == []
    monkeypatch.setattr(module, "_OF", WeakKeyDictionary())
    assert "linear=torch" in numerics_class(anatomy, 16)


@needs_packed
@pytest.mark.parametrize("shape", [(8, 1), (3, 2**21), (2**16, 3), (151, 151936)])
def test_any_shape_can_be_tried(shape):
    assert independent(*shape, torch.get_num_threads()) in (True, False)


@needs_packed
@pytest.mark.usefixtures("trusted")
@torch.inference_mode()
def test_layers_that_read_one_tensor_are_one_product_and_others_are_not_mixed_up(model):
    attention, x, y = model.model.layers[0].self_attn, torch.randn(32, 48), torch.randn(32, 48)
    q, k = attention.q_proj, attention.k_proj
    with packed(packs_of(model)):
        found = [q(x), k(x), q(x), k(y), k(x), k(x)]
    for ours, (linear, read) in zip(found, [(q, x), (k, x), (q, x), (k, y), (k, x), (k, x)], strict=True):
        assert (ours - linear(read)).abs().max() < 1e-5
    assert all(pack.read is None and not pack.due for pack in packs_of(model))


@needs_packed
@pytest.mark.usefixtures("trusted")
@torch.inference_mode()
def test_hooks_on_packed_layers_act_and_nothing_is_left_behind(model):
    linear, x = model.model.layers[1].mlp.down_proj, torch.randn(16, 64)
    handle = linear.register_forward_hook(lambda _m, _i, out: out * 2)
    with packed(packs_of(model)):
        doubled = linear(x)
    handle.remove()
    assert torch.allclose(doubled, 2 * linear(x), atol=1e-5)
    assert not any("forward" in part.__dict__ for part in model.modules())


@needs_packed
@pytest.mark.usefixtures("trusted")
@torch.inference_mode()
def test_a_weight_that_changes_is_packed_again(model):
    x = torch.randn(16, 48)
    with packed(packs_of(model)):
        before = model.lm_head(x)
    model.lm_head.weight.mul_(2)
    with packed(packs_of(model)):
        assert torch.allclose(model.lm_head(x), 2 * before, atol=1e-5)
    model.lm_head.weight = nn.Parameter(torch.zeros_like(model.lm_head.weight), requires_grad=False)
    with packed(packs_of(model)):
        assert not model.lm_head(x).any()


@needs_packed
@pytest.mark.usefixtures("trusted")
def test_tied_weights_stay_tied_and_what_is_too_large_or_no_fp32_stays_as_it_is(model, toy, monkeypatch):
    monkeypatch.setattr(module, "_OF", WeakKeyDictionary())
    assert any(linear is toy.model.lm_head for pack in packs_of(toy.model) for linear in pack.linears)
    assert toy.model.lm_head.weight is toy.model.model.embed_tokens.weight
    assert packable(family("gpt2")) and all(type(one) is nn.Linear for group in packable(model) for one in group)
    assert packable(family("qwen2").bfloat16()) == []
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert packable(model) == []


def test_a_model_writes_what_it_writes_with_any_number_of_slots(toy, prompts):
    rows = [Request(f"{i}", prompts[i % 8], 20, i, (Term(f"mlp.{i % 6}", "scale", 0.5),)) for i in range(24)]

    def written(slots):
        decoder = Decoder(toy, Sampling(0.7), slots, 256)
        try:
            return {done.key: done.token_ids for done in decoder.run(rows)}
        finally:
            decoder.close()

    assert written(16) == written(64) == written(96)


@pytest.mark.parametrize("term", [("scale", 1.0), ("add", 0.0, "v")])
def test_what_a_hook_gives_is_laid_out_as_what_it_got(model, term):
    """Else torch's own product of it is another, slower one, whose bits depend on the number of rows."""
    anatomy, seen = dissect(model), []
    text = prefilled_text(anatomy, tuple(range(5, 25)))
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    handles = [one.register_forward_pre_hook(lambda _m, args: seen.append(args[0])) for one in linears]
    read_rows(text, [(15, tuple(Term(site, *term) for site in anatomy.sites))] * 32, Bank({"v": torch.ones(48)}))
    for handle in handles:
        handle.remove()
    assert len(seen) == len(linears) and all(x.stride() == (x.shape[-1], x.shape[-1], 1) for x in seen)
