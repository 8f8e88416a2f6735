"""Receipts against a count that is made another way, under every policy, where rows end early, and under replay."""

from itertools import product

import pytest
import torch

from raybt.engine.anatomy import dissect
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.request import Request, Sampling, Term
from tests.engine.families import family
from tests.engine.reference import is_on

WINDOWS = {"onset": (3, 9), "after_trigger": (1, 4)}
POLICIES = ("decode", "generated", "prompt", "all", "onset", "after_trigger")


def counted(request, tokens, triggers):
    """Input positions that the plain hooks of the tests would have touched for a row that wrote these tokens."""
    before = len(request.prompt) - 1
    return sum(
        is_on(request, position, list(tokens[: max(0, position - before)]), triggers)
        for position in range(before + len(tokens))
    )


def written(decoder, rows):
    try:
        return {done.key: done for done in decoder.run(rows)}
    finally:
        decoder.close()


def test_they_are_right_under_every_policy_where_rows_end_early(toy, prompts):
    """Rows stop at an end-of-sequence token or at short limits of their own; slots are refilled all the while."""
    terms = (Term("mlp.3", "scale", 0.7), Term("head.2.1", "add", 0.5, "v"), Term("attn.4", "resample", 0.2, "t"))
    bank = Bank({"v": torch.ones(32), "t": torch.randn(4, 128, generator=torch.Generator().manual_seed(0))})
    plain = written(Decoder(toy, Sampling(0.7), 16, 288), [Request("plain", prompts[0], 200, 5)])["plain"].token_ids
    triggers = ((plain[4],), plain[8:10])
    rows = [
        Request(f"{policy}/{p}/{limit}", prompts[p], limit, 5 + p, terms, policy, window=WINDOWS.get(policy))
        for policy, p, limit in product(POLICIES, range(3), (200, 1, 7))
    ]
    done = written(Decoder(toy, Sampling(0.7), 16, 288, bank, triggers), rows)
    ended = {row.key: done[row.key].finish_reason for row in rows}
    assert set(ended.values()) == {"eos", "length"}
    for row in rows:
        demanded = counted(row, done[row.key].token_ids, triggers)
        assert done[row.key].error is None
        assert done[row.key].receipt == ({term.site: demanded for term in terms} if demanded else {}), row.key
    assert any(done[row.key].receipt for row in rows if row.positions == "after_trigger")


class Replayed(Decoder):
    """A decoder whose forward pass is a graph of the model and its hooks, captured once and replayed over buffers."""

    def __init__(self, *args):
        super().__init__(*args)
        self.packs = []  # dynamo knows no packed weights

    def forward(self):
        model = self.anatomy.model
        model.forward = COMPILED[model]
        try:
            return super().forward()
        finally:
            del model.forward


COMPILED = {}
MLP = (Term("mlp.1", "scale", 0.5),)
REPLAYED = [
    Request("none", (5, 6, 7), 10, 1),
    Request("decode", (5, 6, 7), 10, 1, MLP),
    Request("onset", (5, 6, 7), 10, 1, MLP, "onset", window=(2, 5)),
    Request("short", (5, 6, 7), 4, 1, MLP, "generated"),
]


@pytest.fixture(scope="module")
def small():
    anatomy = dissect(family("qwen2"))
    anatomy.model.generation_config.eos_token_id = anatomy.model.config.eos_token_id = None
    COMPILED[anatomy.model] = torch.compile(anatomy.model.forward, fullgraph=True, backend="eager")
    return anatomy


def test_a_replayed_graph_counts_what_the_buffers_say(small):
    done = written(Replayed(small, Sampling(greedy=True), 16, 16), REPLAYED)
    assert {key: (row.receipt, row.error) for key, row in done.items()} == {
        "none": ({}, None),
        "decode": ({"mlp.1": 9}, None),
        "onset": ({"mlp.1": 3}, None),
        "short": ({"mlp.1": 4}, None),
    }
    plain = written(Decoder(small, Sampling(greedy=True), 16, 16), REPLAYED)
    assert {key: row.token_ids for key, row in done.items()} == {key: row.token_ids for key, row in plain.items()}


def test_a_graph_that_replays_old_numbers_or_without_a_hook_voids_its_rows(small):
    frozen = Replayed(small, Sampling(greedy=True), 16, 16)
    frozen.hooks.arm = lambda gate, draws: None
    detached = Replayed(small, Sampling(greedy=True), 16, 16)
    detached.hooks._handles[list(detached.hooks.rows).index("mlp.1")].remove()
    for broken in (written(frozen, REPLAYED), written(detached, REPLAYED)):
        assert {key for key, row in broken.items() if row.error} == {"decode", "onset", "short"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_steps_write_and_count_what_uncaptured_ones_do():
    anatomy = dissect(family("qwen2").cuda())
    plain = Decoder(anatomy, Sampling(0.7), 16, 64, capture=False)
    captured = Decoder(anatomy, Sampling(0.7), 16, 64)
    ours, theirs = written(captured, REPLAYED), written(plain, REPLAYED)
    assert captured.graphs.graphs
    assert {k: (d.token_ids, d.receipt, d.error) for k, d in ours.items()} == {
        k: (d.token_ids, d.receipt, d.error) for k, d in theirs.items()
    }
