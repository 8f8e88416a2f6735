"""The step reads only buffers: nothing in it waits for the device, and it is one graph, hooks included."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from raybt.engine.anatomy import dissect
from raybt.engine.attention import decoding
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.graph import Graphs
from raybt.engine.request import Request, Sampling, Term
from tests.engine.families import family

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "unique", "item")
TRIGGERS = ((7, 9), (30,))


class NoWaiting(TorchDispatchMode):
    """Fails on operators whose result decides something on the host, which on a GPU means waiting for it."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        self.seen += 1
        return func(*args, **(kwargs or {}))


def rows():
    vector = ("add", 1.0, "v")
    terms = [
        (),
        (Term("mlp.1"),),
        (Term("attn.0", *vector), Term("head.1.2", "scale", 0.5)),
        (Term("resid.0", *vector),),
    ]
    policies = ("decode", "generated", "all", "after_trigger")
    return [
        Request(f"{i}", tuple(range(3, 12 + i)), 20, i, terms[i % 4], policies[i % 3 if i < 9 else 3], window=(0, 4))
        for i in range(16)
    ] + [Request("drawn", (5, 6, 7), 9, 3, (Term("mlp.2", "resample", 1.0, "table"),))]


@pytest.fixture
def decoder():
    vectors = {"v": torch.ones(48), "table": torch.randn(5, 48, generator=torch.Generator().manual_seed(0))}
    made = Decoder(dissect(family("qwen2")), Sampling(greedy=True), 32, 64, Bank(vectors), TRIGGERS)
    made.submit(rows())
    made.refill()
    made.cache.window = made.window()
    yield made
    made.close()


@torch.inference_mode()
def test_nothing_in_the_step_waits_for_the_device(decoder):
    with NoWaiting() as watched:
        for _ in range(3):
            decoder.advance()
    assert watched.seen > 500
    assert {request.key for request in decoder.requests if request} == {row.key for row in rows()}


@torch.inference_mode()
def test_the_watch_sees_a_wait():
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWaiting():
        bool(torch.ones(3).any())


@torch.inference_mode()
def test_model_and_hooks_are_one_graph(decoder):
    """Dynamo with fullgraph raises where anything breaks the graph."""
    model, slots = decoder.anatomy.model, decoder.slots
    decoder.hooks.arm(slots.gate(), decoder.drawn())
    decoder.cache.stand(slots.positions)
    sight = decoder.masks(slots.positions, decoder.cache.window)
    inputs = {
        "input_ids": slots.tokens[:, None].clone(),
        "position_ids": slots.positions[:, None].clone(),
        "attention_mask": sight.masks,
        "past_key_values": decoder.cache,
        "use_cache": True,
    }
    with decoder.hooks.on(), decoding(model, sight):
        before = decoder.hooks.now.touched.clone()  # what prefill left
        eager = model(**inputs).logits
        once = decoder.hooks.now.touched - before
        compiled = torch.compile(model, fullgraph=True, backend="eager")(**inputs).logits
    assert (eager - compiled).abs().max() < 1e-5
    assert once.sum() > 0 and torch.equal(decoder.hooks.now.touched, before + 2 * once)  # the graph counts, too


def test_on_the_cpu_a_step_is_called_once_a_run():
    calls, graphs = [], Graphs(torch.device("cpu"))
    for _ in range(3):
        graphs.run("key", lambda: calls.append(1))
    assert len(calls) == 3 and not graphs.graphs


@torch.inference_mode()
def test_the_key_of_a_graph_holds_what_the_host_decides(decoder):
    before = decoder.captured_by()
    decoder.hooks.wake(0, (Term("mlp.0"),))
    assert decoder.captured_by() != before
    before = decoder.captured_by()
    decoder.cache.window += 16
    assert decoder.captured_by() != before
