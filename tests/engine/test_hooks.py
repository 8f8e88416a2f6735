"""Receipts: what the hooks really touched, and that a broken hook voids its rows."""

import pytest

from raybt.engine.decode import Decoder
from raybt.engine.receipts import receipt_error
from raybt.engine.request import Request, Sampling, scaled
from raybt.engine.wiring import prove_wiring
from raybt.errors import UserError


def run(toy, rows, breakage=None):
    decoder = Decoder(toy, Sampling(temperature=0.7), 16, 256)
    if breakage:
        breakage(decoder.hooks)
    try:
        return {done.key: done for done in decoder.run(rows)}
    finally:
        decoder.close()


@pytest.fixture
def rows(prompts):
    def row(key, positions, *sites):
        return Request(key, prompts[0], 12, 7, scaled((site, 0.5) for site in sites), positions)

    return [row("base", "decode"), row("decode", "decode", "mlp.3"), row("both", "generated", "mlp.3", "attn.4")]


def test_receipts_count_every_step_the_positions_demand(toy, rows):
    done = run(toy, rows)
    n = {key: len(row.token_ids) for key, row in done.items()}
    assert done["base"].receipt == {}
    assert done["decode"].receipt == {"mlp.3": n["decode"] - 1}
    assert done["both"].receipt == {"mlp.3": n["both"], "attn.4": n["both"]}


def test_one_token_under_decode_is_never_touched_and_is_no_error(toy, prompts):
    done = run(toy, [Request("one", prompts[0], 1, terms=scaled([("mlp.3", 0.0)]))])["one"]
    assert done.receipt == {} and done.error is None


def test_a_detached_hook_voids_its_rows_and_no_others(toy, rows):
    done = run(toy, rows, lambda hooks: hooks._handles[list(hooks.rows).index("attn.4")].remove())
    assert "attn.4" in done["both"].error and done["both"].finish_reason == "error"
    assert done["base"].error is None and done["decode"].error is None


def test_a_frozen_hook_voids_its_rows(toy, rows):
    def freeze(hooks):
        hooks.arm = lambda gate, draws: None  # the gains never move again, as in a graph that replays old memory

    done = run(toy, rows, freeze)
    assert done["decode"].error and done["both"].error and done["base"].error is None


def test_a_hook_that_touches_too_much_voids_the_row(toy, rows):
    def smear(hooks):
        columns, wake = hooks.columns, hooks.wake
        more = scaled([("mlp.1", 0.9)])
        hooks.columns = lambda interventions: columns([(*terms, *more) for terms in interventions])
        hooks.wake = lambda slot, terms: wake(slot, (*terms, *more))

    assert "mlp.1" in run(toy, rows, smear)["base"].error


def test_receipt_error_names_site_and_counts():
    row = Request("k", (1, 2), 9, terms=scaled([("mlp.3", 0.0)]))
    assert receipt_error(row, {"mlp.3": 4}, range(5)) is None
    assert "mlp.3 changed its output at 2 positions where 4 were due" in receipt_error(row, {"mlp.3": 2}, range(5))


def test_a_dead_site_stops_the_load(toy):
    dead = toy.point("mlp.2").module.down_proj.weight
    saved = dead.clone()
    dead.zero_()
    try:
        with pytest.raises(UserError, match="mlp.2"):
            prove_wiring(toy)
    finally:
        dead.copy_(saved)
    prove_wiring(toy)


def test_nan_logits_fail_the_row_and_the_slot_recovers(toy, prompts):
    bad = Request("bad", prompts[0], 6, terms=scaled([("mlp.5", float("inf"))]), positions="generated")
    decoder = Decoder(toy, Sampling(temperature=0.7), 16, 256)
    first = {done.key: done for done in decoder.run([bad])}
    good = Request("good", prompts[1], 6, stream=3)
    second = {done.key: done for done in decoder.run([good])}
    decoder.close()
    assert "NaN" in first["bad"].error
    assert second["good"].token_ids == run(toy, [good])["good"].token_ids
