"""One decode thread owns slots and queue; blocks of work await their rows."""

import asyncio
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

REPORT_EVERY = 0.5


class Desk:
    """Takes requests from many blocks at once and hands each completion back to the block it came from.

    Args:
        decoder: an engine decoder; only the desk's thread touches it.
        report: called now and then with (rows, tokens, failed) since the last call.
        died: called with the exception if the decoder breaks; does not return to the blocks.
        note: called with what the run's manifest should say, such as that memory ran out.
    """

    def __init__(
        self,
        decoder: Any,
        report: Callable[[int, int, int], None],
        died: Callable[[BaseException], None],
        note: Callable[[str], None] = lambda text: None,
    ):
        self.decoder, self.report, self.died, self.note = decoder, report, died, note
        self.inbox: SimpleQueue = SimpleQueue()
        self.outboxes: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Queue]] = {}
        self.counts = [0, 0, 0]
        threading.Thread(target=self._work, name="decode", daemon=True).start()

    def submit(self, requests: list) -> asyncio.Queue:
        """Queue a block's requests. Its completions arrive, in any order, on the queue given back."""
        loop, outbox = asyncio.get_running_loop(), asyncio.Queue()
        self.inbox.put((requests, loop, outbox))
        return outbox

    def _work(self) -> None:
        try:
            while True:
                self._take(block=not self.decoder.busy)
                for done in self.decoder.step():
                    self._give(done)
                while self.decoder.notes:
                    self.note(self.decoder.notes.pop(0))
                if not self.decoder.busy or self.decoder.steps % 32 == 0:
                    self._report()
        except BaseException as error:  # the engine's death ends the replica, whatever it was
            self.died(error)

    def _take(self, block: bool) -> None:
        """Move what is in the inbox to the decoder; wait for work only when there is none."""
        try:
            while True:
                requests, loop, outbox = self.inbox.get(block=block)
                self.outboxes.update({request.key: (loop, outbox) for request in requests})
                self.decoder.submit(requests)
                block = False
        except Empty:
            return

    def _give(self, done) -> None:
        loop, outbox = self.outboxes.pop(done.key)
        loop.call_soon_threadsafe(outbox.put_nowait, done)
        self.counts[0] += 1
        self.counts[1] += len(done.token_ids)
        self.counts[2] += done.error is not None

    def _report(self) -> None:
        if any(self.counts):
            self.report(*self.counts)
            self.counts = [0, 0, 0]
