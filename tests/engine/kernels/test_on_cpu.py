"""The C kernels: numbers of the plain way, bits that depend on nothing but the row, and what happens without them."""

import numpy as np
import pytest
import torch

from raybt.engine import packed as packing
from raybt.engine.anatomy import dissect
from raybt.engine.decode import Decoder
from raybt.engine.kernels import build, cpu_attend, cpu_sample
from raybt.engine.load import numerics_class
from raybt.engine.noise import exponential, words
from raybt.engine.request import Request, Sampling, Term
from raybt.engine.sampling import choose
from raybt.engine.score import forced_logits
from tests.engine.families import family


def attention(dim, group):
    made = cpu_attend.kernel(dim, group)
    return made or pytest.skip("no C compiler")


@pytest.mark.parametrize(("dim", "group"), [(16, 1), (32, 2), (64, 5), (80, 3), (128, 7), (256, 2)])
@pytest.mark.parametrize("sliding", [None, 20])
def test_the_kernels_attention_equals_the_definition(dim, group, sliding):
    made, slots, kv, window = attention(dim, group), 6, 2, 144
    generator = torch.Generator().manual_seed(dim)
    store = torch.randn(2, slots, window + 32, kv, dim, generator=generator)
    keys, values = store[:, :, :window].transpose(2, 3)
    query = 2 * torch.randn(slots, kv * group, 1, dim, generator=generator)
    last = torch.tensor([0, 15, 16, 63, 143, 170])  # the last slot is out of use and stands beyond the window
    first = torch.zeros_like(last) if sliding is None else (last - sliding + 1).clamp(min=0)
    ours = cpu_attend.attend_slots(made, query, keys, values, first, last)
    ahead = torch.arange(window)
    seen = ((ahead <= last[:, None]) & (ahead >= first[:, None]))[:-1]
    scores = (query @ keys.repeat_interleave(group, 1).transpose(2, 3)).double()[:-1] * dim**-0.5
    weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
    expected = (weights @ values[:-1].double().repeat_interleave(group, 1)).transpose(1, 2)
    assert (ours[:-1] - expected).abs().max() < 2e-6


def test_a_slots_bits_depend_on_nothing_but_the_slot(monkeypatch):
    made, store = attention(32, 2), torch.randn(2, 48, 96, 2, 32)
    query, last = torch.randn(48, 4, 1, 32), torch.randint(0, 90, (48,))
    first = torch.zeros_like(last)
    keys, values = store.transpose(2, 3)
    whole = cpu_attend.attend_slots(made, query, keys, values, first, last)
    order = torch.randperm(48)
    moved = cpu_attend.attend_slots(made, query[order], keys[order], values[order], first[order], last[order])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    shared = cpu_attend.attend_slots(made, query, keys, values, first, last)
    alone = cpu_attend.attend_slots(made, query[7:8], keys[7:8], values[7:8], first[7:8], last[7:8])
    assert torch.equal(moved, whole[order]) and torch.equal(shared, whole) and torch.equal(alone[0], whole[7])


def test_a_slot_of_nans_spoils_itself_alone_and_far_scores_do_no_harm():
    made, store, query = attention(16, 1), torch.randn(2, 3, 32, 1, 16), torch.randn(3, 1, 1, 16)
    store[0, 1, 3], query[2] = torch.nan, 1e4 * query[2]
    out = cpu_attend.attend_slots(made, query, *store.transpose(2, 3), torch.zeros(3).long(), torch.full((3,), 20))
    assert out[1].isnan().all() and out[0].isfinite().all() and out[2].isfinite().all()


def forget_kernels():
    cpu_attend.kernel.cache_clear()
    cpu_sample.kernel.cache_clear()


def drawn(logits, rule, streams, steps):
    if cpu_sample.kernel() is None:
        pytest.skip("no C compiler")
    return cpu_sample.sample(logits, rule, torch.from_numpy(streams.view(np.int64)), torch.from_numpy(steps))


@pytest.mark.parametrize("vocabulary", [1, 37, 600, 2500])
@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
def test_the_kernel_draws_the_tokens_of_the_plain_way(vocabulary, top_k, top_p):
    rows, rule = 60, Sampling(0.8, top_p, top_k)
    streams, steps = np.arange(rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15), np.arange(rows) * 7
    logits = 2.5 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))
    noise = torch.cat([exponential(words(int(s), int(t), vocabulary)) for s, t in zip(streams, steps, strict=True)])
    tokens, usable = drawn(logits, rule, streams, steps)
    assert usable.all() and torch.equal(tokens, choose(logits.clone(), rule, noise)[0])
    some = drawn(logits[20:30], rule, streams[20:30], steps[20:30])[0]
    assert torch.equal(some, tokens[20:30])


def test_bad_logits_are_flagged_and_minus_infinity_is_no_bad_one():
    bad = torch.zeros(4, 40)
    bad[0, 39], bad[1, 3], bad[2] = torch.nan, torch.inf, -torch.inf
    bad[3, :39] = -torch.inf
    tokens, usable = drawn(bad, Sampling(top_p=0.9), np.arange(4, dtype=np.uint64), np.zeros(4, np.int64))
    assert usable.tolist() == [False, False, False, True] and tokens[3] == 39


def written(toy, prompts):
    decoder = Decoder(toy, Sampling(0.7, 0.95), 16, 256)
    try:
        rows = [Request(f"{i}", prompts[i % 4], 20, i, (Term("mlp.3", "scale", 0.5),)) for i in range(20)]
        return {done.key: done.token_ids for done in decoder.run(rows)}
    finally:
        decoder.close()


def test_without_packing_and_without_a_compiler_rows_are_those_of_torch(toy, prompts, monkeypatch):
    row, tokens = Request("row", prompts[0], 20, terms=(Term("mlp.3", "scale", 0.5),)), {"row": tuple(range(30, 50))}
    logits, rows, here = forced_logits(toy, [row], tokens, 32)["row"], written(toy, prompts), numerics_class(toy, 32)
    monkeypatch.setattr(packing, "HAVE_PACKED", False)
    monkeypatch.setattr(packing, "_OF", type(packing._OF)())
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    forget_kernels()
    try:
        assert numerics_class(toy, 32).split("|")[2:5] == ["sdpa", "linear=torch", "draws=torch"]
        apart = (forced_logits(toy, [row], tokens, 32)["row"] - logits).abs().max()
        assert apart < 1e-4 and (apart > 0 or here.split("|")[2] == "sdpa")
        same = sum(rows[key] == theirs for key, theirs in written(toy, prompts).items())
        assert same >= 19  # rounding parts a row where two tokens are nearly as good
    finally:
        forget_kernels()


def test_a_kernel_that_does_not_compile_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "sample.c").write_text("this is no C")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    forget_kernels()
    try:
        assert cpu_sample.kernel() is None
    finally:
        forget_kernels()


def test_heads_that_no_kernel_fits_take_torchs_attention():
    anatomy = dissect(family("qwen2"))  # heads of 12
    assert anatomy.head_width == 12 and cpu_attend.kernel(12, 2) is None
    assert numerics_class(anatomy, 16).split("|")[2] == "sdpa"
