"""The mixed-condition loop against plain hooks around `generate`, and against itself in other mixtures."""

from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.request import Request, Sampling, Term, scaled
from raybt.engine.score import Recorder, forced_logits
from tests.engine.reference import generate

ROOT = Path(__file__).parents[2]


def demo_conditions():
    """What configs/demo.yaml does to the model, baseline first, as (site, factor) pairs.

    Skips where there is the engine alone: planning needs more packages.
    """
    for package in ("pyarrow", "pydantic"):
        pytest.importorskip(package)
    from raybt.config import Model
    from raybt.load import load_config
    from raybt.plan.conditions import plan_conditions
    from raybt.plan.model_facts import resolve_model
    from raybt.plan.sites import parse_canonical

    rows = plan_conditions(load_config(ROOT / "configs" / "demo.yaml"), resolve_model(Model(name="raybt-toy")))
    interventions = dict.fromkeys(rows["intervention"].to_pylist())
    return [tuple((term.site, term.strength) for term in parse_canonical(text)) for text in interventions]


CONDITIONS = [
    (),
    (("attn.4", 0.0),),
    (("mlp.3", 0.5),),
    (("mlp.0", 0.0), ("attn.5", 2.0)),
    (("attn.1", -1.0), ("mlp.1", 0.9), ("mlp.2", 0.25)),
]
GREEDY = Sampling(greedy=True)
WARM = Sampling(temperature=0.7)


def requests(prompts, conditions, limit=40, samples=1, positions="decode"):
    rows = product(enumerate(prompts), enumerate(conditions), range(samples))
    return [
        Request(f"{p}/{c}/{s}", prompt, limit, stream=1000 * p + s, terms=scaled(strengths), positions=positions)
        for (p, prompt), (c, strengths), s in rows
    ]


def decode(toy, rows, sampling=WARM, slots=32, length=256):
    decoder = Decoder(toy, sampling, slots, length)
    try:
        return {done.key: done for done in decoder.run(rows)}
    finally:
        decoder.close()


@pytest.fixture(params=["here", "demo"])
def conditions(request):
    return CONDITIONS if request.param == "here" else demo_conditions()


@pytest.mark.parametrize("positions", ["decode", "generated"])
def test_equals_plain_hooks_around_generate(toy, prompts, positions):
    rows = requests(prompts[:2], CONDITIONS, positions=positions)
    plain = {row.key: generate(toy, row) for row in rows}
    ours = decode(toy, rows, GREEDY)
    logits = forced_logits(toy, rows, {key: tokens for key, (tokens, _) in plain.items()}, slots=32)

    assert max((logits[key] - expected).abs().max().item() for key, (_, expected) in plain.items()) < 1e-4
    steps = clear = 0
    for key, (tokens, expected) in plain.items():
        margin = expected.topk(2).values.diff().abs()[:, 0] > 1e-3
        steps, clear = steps + len(margin), clear + int(margin.sum())
        agreed = len(tokens) if margin.all() else int(margin.int().argmin())
        assert ours[key].token_ids[:agreed] == tokens[:agreed]
    assert clear >= 0.99 * steps


def test_each_condition_changes_the_logits_and_only_after_the_first_step(toy, prompts, conditions):
    rows = requests(prompts[:1], conditions)
    tokens = decode(toy, rows[:1], GREEDY)[rows[0].key].token_ids
    logits = forced_logits(toy, rows, {row.key: tokens for row in rows})
    for row in rows[1:]:
        assert torch.equal(logits[row.key][0], logits[rows[0].key][0])
        assert not torch.equal(logits[row.key][1:], logits[rows[0].key][1:])


def test_factor_one_equals_no_hooks_bit_for_bit(toy, prompts):
    everywhere = tuple((site, 1.0) for site in toy.sites)
    rows = requests(prompts[:2], [(), everywhere], limit=30)
    bare = Decoder(toy, WARM, 32, 256)
    bare.close()
    reference = {done.key: done for done in bare.run(rows)}
    ours = decode(toy, rows)
    assert {key: done.token_ids for key, done in ours.items()} == {k: d.token_ids for k, d in reference.items()}
    assert all(done.receipt == {} and done.error is None for done in ours.values())


def test_factor_one_gives_bitwise_the_logits_of_no_hooks_beside_a_row_that_wakes_every_hook(toy, prompts):
    noop = Request("noop", prompts[0], 20, terms=scaled((s, 1.0) for s in toy.sites), positions="generated")
    busy = Request("busy", prompts[1], 20, terms=scaled((s, 0.9) for s in toy.sites), positions="generated")
    bare, hooked = (Recorder(toy, GREEDY, 32, 256) for _ in range(2))
    bare.close()
    list(bare.run([noop]))
    assert {done.key: done.error for done in hooked.run([noop, busy])} == {"noop": None, "busy": None}
    hooked.close()
    assert all(torch.equal(a, b) for a, b in zip(hooked.seen["noop"], bare.seen["noop"], strict=True))


@pytest.fixture(scope="module")
def workload(toy, prompts):
    rows = requests(prompts[:3], CONDITIONS, limit=24, samples=2)
    return rows, {key: done.token_ids for key, done in decode(toy, rows).items()}


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_tokens_do_not_depend_on_slot_neighbours_or_order(toy, workload, data):
    rows, expected = workload
    chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, unique_by=lambda row: row.key))
    slots = data.draw(st.sampled_from([16, 32, 48]))
    ours = decode(toy, chosen, slots=slots)
    assert {key: done.token_ids for key, done in ours.items()} == {row.key: expected[row.key] for row in chosen}


def test_logits_are_bitwise_independent_of_the_neighbours(toy, prompts):
    row = Request("row", prompts[0], 12, terms=scaled([("mlp.3", 0.5)]))
    others = requests(prompts[1:], CONDITIONS, limit=60)
    tokens = tuple(range(30, 42))
    alone = forced_logits(toy, [row], {"row": tokens}, slots=32)["row"]
    forced = {"row": tokens} | {other.key: tuple(range(10, 70)) for other in others}
    crowded = forced_logits(toy, [*others[:20], row, *others[20:]], forced, slots=32)["row"]
    assert torch.equal(alone, crowded)


def test_rows_of_one_stream_share_their_noise_until_the_intervention_parts_them(toy, prompts):
    near = [(), (("mlp.3", 0.999),)]
    rows = requests(prompts, near, samples=4)
    shared = decode(toy, rows)
    apart = decode(toy, [Request(r.key, r.prompt, r.max_new_tokens, i, r.terms) for i, r in enumerate(rows)])

    def prefix(done, key):
        a, b = done[f"{key[0]}/0/{key[1]}"].token_ids, done[f"{key[0]}/1/{key[1]}"].token_ids
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    pairs = [(p, s) for p in range(len(prompts)) for s in range(4)]
    coupled = sum(prefix(shared, pair) for pair in pairs)
    independent = sum(prefix(apart, pair) for pair in pairs)
    assert coupled > 1.5 * independent


def test_limits_and_finish_reasons(toy, prompts):
    done = decode(toy, requests(prompts[:2], [()], limit=3) + [Request("long", prompts[0], 200)], GREEDY)
    assert done["0/0/0"].finish_reason == "length" and len(done["0/0/0"].token_ids) == 3
    assert done["long"].finish_reason == "eos" and done["long"].token_ids[-1] in toy.eos_ids


def test_a_prompt_of_one_token_needs_no_prefill(toy):
    row = Request("one", (5,), 8)
    tokens, _ = generate(toy, row)
    assert decode(toy, [row], GREEDY)["one"].token_ids == tokens


def test_a_row_that_cannot_run_is_an_error_and_harms_no_other(toy, prompts):
    good = requests(prompts[:1], [()])
    bad = [Request("too long", prompts[0], 10_000), Request("no site", prompts[0], 4, terms=scaled([("mlp.99", 0.0)]))]
    done = decode(toy, [*bad, *good], GREEDY)
    assert "slots hold 256" in done["too long"].error and "mlp.99" in done["no site"].error
    assert done["0/0/0"].error is None


def test_slots_stay_full_while_rows_wait(toy, prompts):
    rows = requests(prompts, CONDITIONS, limit=20, samples=2)
    decoder = Decoder(toy, WARM, 16, 256)
    decoder.submit(rows)
    while decoder.queue:
        decoder.step()
        decoder.refill([])
        assert all(decoder.requests) or not decoder.queue
    list(decoder.run())
    decoder.close()


def test_slots_that_take_other_vectors_write_as_new_ones_would(toy):
    rows = [
        Request(str(i), (5, 6, 7 + i), 6, i, (Term("mlp.2", "add", 2.0, "v"),), ("decode", "all")[i % 2])
        for i in range(20)
    ]

    def banks():
        return [Bank({"v": torch.linspace(-one, one, toy.model.config.hidden_size)}) for one in (1, 2)]

    def tokens(decoder):
        return {done.key: done.token_ids for done in decoder.run(rows)}

    first, second = banks()
    kept = Decoder(toy, Sampling(0.8), 16, 64, first)
    before, keys = tokens(kept), kept.captured_by()
    assert kept.serves(Sampling(0.8), None, 48, ()) and kept.serves(Sampling(0.8), 16, 64, ())
    others = [(Sampling(0.7), 16, 64, ()), (Sampling(0.8), 32, 64, ()), (Sampling(0.8), 16, 65, ())]
    assert not any(kept.serves(*other) for other in [*others, (Sampling(0.8), 16, 64, ((3,),))])
    kept.submit(rows)
    assert not kept.serves(Sampling(0.8), 16, 64, ())
    kept.queue.clear()
    kept.adopt(second)
    after = tokens(kept)
    assert kept.captured_by() != keys
    kept.close()
    for bank, expected in zip(banks(), (before, after), strict=True):
        fresh = Decoder(toy, Sampling(0.8), 16, 64, bank)
        assert tokens(fresh) == expected
        fresh.close()
    assert before != after
