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


VECTORS = {"v": torch.ones(48), "table": torch.randn(5, 48, generator=torch.Generator().manual_seed(0))}


@pytest.fixture
def decoder():
    made = Decoder(dissect(family("qwen2")), Sampling(greedy=True), 32, 64, Bank(VECTORS), TRIGGERS)
    made.submit(rows())
    made.refill([])
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


class Graph:
    """What a captured step stands for: on replay it does what the step did."""

    def __init__(self, step):
        self.replay = step


class Pretended(Graphs):
    """Captures on a CPU, or fails as asked; a capture itself runs nothing."""

    def __init__(self, told, error=None):
        super().__init__(torch.device("cpu"), told=told)
        self.captures, self.error = True, error

    def _run_aside(self, step):
        step()

    def _capture(self, step):
        if self.error:
            raise self.error
        return Graph(step)


def test_a_step_is_run_once_a_call_be_it_warm_captured_or_replayed():
    calls, notes = [], []
    graphs = Pretended(notes.append)
    for turn in range(1, 5):
        graphs.run("key", lambda: calls.append(1))
        assert len(calls) == turn
    assert list(graphs.graphs) == ["key"] and not notes


def test_a_capture_that_fails_goes_on_uncaptured_and_says_so_once():
    calls, notes = [], []
    graphs = Pretended(notes.append, RuntimeError("operation not permitted when stream is capturing\nmore"))
    for _ in range(4):
        for key in "ab":
            graphs.run(key, lambda: calls.append(1))
    assert len(calls) == 8 and not graphs.graphs and not graphs.captures
    assert len(notes) == 1 and "not permitted when stream is capturing" in notes[0] and not notes[0].endswith("more")


def test_memory_that_runs_out_in_a_capture_is_no_reason_to_go_on_uncaptured():
    graphs = Pretended(lambda note: None, torch.OutOfMemoryError("CUDA out of memory"))
    graphs.run("key", lambda: None)
    with pytest.raises(torch.OutOfMemoryError):
        graphs.run("key", lambda: None)
    assert graphs.captures


def test_rows_that_are_looked_at_a_step_late_are_written_and_counted_alike():
    def written(behind):
        decoder = Decoder(dissect(family("qwen2")), Sampling(0.8), 16, 64, Bank(VECTORS), TRIGGERS)
        decoder.exits.behind = behind
        done = {row.key: (row.token_ids, row.receipt, row.error, row.finish_reason) for row in decoder.run(rows())}
        tokens = decoder.row_steps
        decoder.close()
        return done, tokens

    at_once, late = written(0), written(1)
    assert at_once == late and len(late[0]) == 17
    assert late[1] == sum(len(row[0]) for row in late[0].values())  # no step of a row that has ended is counted


@torch.inference_mode()
def test_the_key_of_a_graph_holds_what_the_host_decides(decoder):
    before = decoder.captured_by()
    decoder.hooks.wake(0, (Term("mlp.0"),))
    assert decoder.captured_by() != before
    before = decoder.captured_by()
    decoder.cache.window += 16
    assert decoder.captured_by() != before


def test_graphs_of_other_vectors_are_dropped_with_them(decoder):
    """Else every wave would leave its own, until there is room for no more."""
    kept, graphs = decoder.captured_by(), Pretended(lambda note: None)
    decoder.graphs = graphs
    untouched = kept._replace(bank=0)
    for key in (kept, untouched) * 2:
        graphs.run(key, lambda: None)
    decoder.requests = [None] * len(decoder.requests)
    decoder.adopt(Bank(VECTORS))
    assert set(graphs.graphs) == {untouched} == graphs.warm


def test_what_spoilt_a_capture_is_told_where_it_could_not_be_ended_either():
    def spoilt(cause):
        error = RuntimeError("operation failed due to a previous error during capture")
        error.__context__ = cause
        return error

    notes = []
    graphs = Pretended(notes.append, spoilt(RuntimeError("a sync is not permitted")))
    graphs.warm.add("key")
    graphs.run("key", lambda: None)
    assert "a sync is not permitted" in notes[0]
    graphs = Pretended(notes.append, spoilt(torch.OutOfMemoryError("CUDA out of memory")))
    graphs.warm.add("key")
    with pytest.raises(torch.OutOfMemoryError):
        graphs.run("key", lambda: None)
