"""The desk: blocks come and go, the slots stay full."""

import asyncio

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
    desk = Desk(decoder, lambda *numbers: counts.append(numbers), broken.append)

    async def take(requests):
        outbox = desk.submit(requests)
        return [(await outbox.get()).key for _ in requests]

    async def both():
        return await asyncio.gather(take(block("a", 60)), take(block("b", 60)), take(block("c", 40)))

    finished = asyncio.run(both())
    decoder.close()
    assert [sorted(keys) for keys in finished] == [
        sorted(row.key for row in block(name, rows)) for name, rows in (("a", 60), ("b", 60), ("c", 40))
    ]
    assert not broken and sum(rows for rows, _, _ in counts) <= 160
    waiting = [used for used, queued in decoder.seen if queued]
    assert len(waiting) > 50 and set(waiting) == {16}
    assert sum(used for used, _ in decoder.seen) / (16 * len(decoder.seen)) > 0.85


def test_what_the_decoder_notes_reaches_the_desks_owner(toy):
    decoder, notes = Decoder(toy, Sampling(), 16, 64), []
    decoder.notes.append("out of memory with 64 slots; went on with 32")
    desk = Desk(decoder, lambda *numbers: None, notes.append, notes.append)

    async def one():
        return await desk.submit(block("a", 1)).get()

    asyncio.run(one())
    decoder.close()
    assert notes == ["out of memory with 64 slots; went on with 32"]
