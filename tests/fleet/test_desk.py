"""The desk: blocks come and go, the slots stay full."""

import asyncio
import threading

import pytest

from raybt.engine.decode import Decoder
from raybt.engine.request import Request, Sampling
from raybt.fleet.desk import Desk


class Watched(Decoder):
    """Notes after every step how many slots were in use and how many rows waited."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen: list[tuple[int, int]] = []

    def advance(self):
        self.seen.append((sum(request is not None for request in self.requests), len(self.queue)))
        super().advance()


def block(name, rows):
    return [Request(f"{name}/{i}", tuple(range(5, 15)), 3 + (7 * i) % 23, i) for i in range(rows)]


def test_slots_stay_full_across_blocks_while_a_next_block_waits(toy):
    decoder, counts, broken = Watched(toy, Sampling(), 16, 64), [], []
    desk = Desk(decoder, counts.append, broken.append)

    async def take(requests):
        outbox = desk.submit(requests)
        return [(await outbox.get()).key for _ in requests]

    async def both():
        return await asyncio.gather(take(block("a", 60)), take(block("b", 60)), take(block("c", 40)))

    finished = asyncio.run(both())
    desk.close()
    assert [sorted(keys) for keys in finished] == [
        sorted(row.key for row in block(name, rows)) for name, rows in (("a", 60), ("b", 60), ("c", 40))
    ]
    assert not broken and sum(counts) == decoder.row_steps  # tokens are told as they are written
    waiting = [used for used, queued in decoder.seen if queued]
    assert len(waiting) > 50 and set(waiting) == {16}
    assert sum(used for used, _ in decoder.seen) / (16 * len(decoder.seen)) > 0.85


def test_what_the_decoder_notes_reaches_the_desks_owner(toy):
    decoder, notes = Decoder(toy, Sampling(), 16, 64), []
    decoder.notes.append("out of memory with 64 slots; went on with 32")
    desk = Desk(decoder, lambda tokens: None, notes.append, notes.append)

    async def one():
        return await desk.submit(block("a", 1)).get()

    asyncio.run(one())
    decoder.close()
    assert notes == ["out of memory with 64 slots; went on with 32"]


def test_a_call_is_answered_between_steps_and_its_error_goes_to_who_asked(toy):
    decoder, broken, threads = Decoder(toy, Sampling(), 16, 64), [], []
    desk = Desk(decoder, lambda tokens: None, broken.append)

    def measure():
        assert decoder.hooks.live is None  # not within a step
        threads.append(threading.current_thread().name)
        return "measured"

    async def both():
        outbox = desk.submit(block("a", 40))
        answers = [await desk.call(measure) for _ in range(3)]
        with pytest.raises(ZeroDivisionError):
            await desk.call(lambda: 1 / 0)
        return answers, [(await outbox.get()).key for _ in range(40)]

    answers, keys = asyncio.run(both())
    decoder.close()
    assert answers == ["measured"] * 3 and set(threads) == {"decode"}
    assert sorted(keys) == sorted(row.key for row in block("a", 40)) and not broken
