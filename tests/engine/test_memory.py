"""Slots that fit into memory, and memory that runs out."""

import subprocess
import sys
import weakref

import pytest
import torch

from raybt.engine.decode import Decoder
from raybt.engine.memory import MOST, bytes_per_slot, fit_slots
from raybt.engine.request import Request, Sampling
from raybt.errors import UserError

GIB = 2**30


def test_slots_fill_the_free_memory_and_are_multiples_of_16(toy):
    each = bytes_per_slot(toy, 256)
    assert fit_slots(toy, 256) == 64 and fit_slots(toy, 256, asked=48) == 48
    assert fit_slots(toy, 256, free=int(100 * each / 0.84)) == 96
    assert fit_slots(toy, 256, free=1000 * GIB) == MOST
    assert fit_slots(toy, 256, asked=32, free=1000 * GIB) == 32


def test_a_slot_takes_what_the_decoder_allocates_for_it(toy):
    decoder = Decoder(toy, Sampling(), 64, 256)
    decoder.close()
    stored = sum(store.nbytes for store in decoder.cache.stores) / 64
    assert stored <= bytes_per_slot(toy, 256) <= 1.3 * stored


@pytest.mark.parametrize(("asked", "fix"), [(None, "shorten rows to"), (64, "set replicas.slots to 16")])
def test_too_little_memory_is_refused_with_what_would_fit(toy, asked, fix):
    free = int(bytes_per_slot(toy, 256) * (10 if asked is None else 25))
    with pytest.raises(UserError, match=fix):
        fit_slots(toy, 256, asked, free)


SHORT_OF_MEMORY = """
import resource, torch
torch.set_num_threads(1)
from raybt.engine.decode import Decoder
from raybt.engine.load import load_model
from raybt.engine.request import Request, Sampling
from raybt.toy import MODEL_DIR

toy = load_model(str(MODEL_DIR), device="cpu")
rows = [Request(str(i), tuple(range(5, 25 + i % 7)), 12, i) for i in range(150)]
plenty = {done.key: done.token_ids for done in Decoder(toy, Sampling(), 64, 64).run(rows)}

decoder = Decoder(toy, Sampling(), 64, 64)
stock = decoder.forward
def greedy_for_memory():
    if len(decoder.requests) > 16:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
        try:
            torch.empty(len(decoder.requests) * 2**24)  # a step whose memory grows with the slots
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return stock()
steps = 0
def sometimes():
    global steps
    steps += 1
    return greedy_for_memory() if steps == 5 or steps == 20 else stock()
decoder.forward = sometimes
short = {done.key: done.token_ids for done in decoder.run(rows)}
print(short == plenty, decoder.notes)
"""


def test_a_step_that_finds_no_memory_halves_the_slots_and_the_tokens_stay_the_same():
    """In a process of its own, whose address space is really limited while a step allocates."""
    ran = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr[-2000:]
    notes = "['out of memory with 64 slots; went on with 32', 'out of memory with 32 slots; went on with 16']"
    assert ran.stdout.strip() == f"True {notes}"


def test_no_memory_with_the_fewest_slots_is_the_replicas_death(toy):
    decoder = Decoder(toy, Sampling(), 16, 64)
    decoder.forward = lambda: (_ for _ in ()).throw(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(RuntimeError, match="can't allocate"):
        list(decoder.run([Request("a", (5, 6), 3)]))
    decoder.close()


def test_where_slots_are_halved_the_old_ones_are_gone_first_and_refused_rows_are_told(toy, monkeypatch):
    decoder = Decoder(toy, Sampling(greedy=True), 32, 64)
    old, alive = weakref.ref(decoder.cache.stores[0]), []
    advance, allocate = decoder.advance, decoder.allocate

    def full():
        if len(decoder.requests) == 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        advance()

    monkeypatch.setattr(decoder, "advance", full)
    monkeypatch.setattr(decoder, "allocate", lambda slots: (alive.append(old() is not None), allocate(slots)))
    rows = [Request("no tokens", (), 4, 0), *(Request(str(i), (5, 6, 7 + i), 4, i) for i in range(20))]
    done = {row.key: row for row in decoder.run(rows)}
    decoder.close()
    assert alive == [False] and len(decoder.requests) == 16 and "out of memory" in decoder.notes[0]
    assert set(done) == {row.key for row in rows}
    assert [key for key, row in done.items() if row.error] == ["no tokens"]


def test_a_row_that_is_refused_while_another_finds_no_memory_is_not_lost(toy, monkeypatch):
    decoder = Decoder(toy, Sampling(greedy=True), 32, 64)
    start = decoder.start

    def full(started):
        monkeypatch.setattr(decoder, "start", start)
        decoder.requests[started[0][0]] = started[0][1]
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(decoder, "start", full)
    done = {row.key: row.error for row in decoder.run([Request("no tokens", (), 4, 0), Request("row", (5, 6), 4, 0)])}
    decoder.close()
    assert set(done) == {"no tokens", "row"} and done["row"] is None
