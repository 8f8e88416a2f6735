"""One decode thread owns slots and queue; blocks of work await their rows."""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

REPORT_EVERY = 0.5  # seconds


class Desk:
    """Takes requests from many blocks at once and hands each completion back to the block it came from.

    Args:
        decoder: an engine decoder; only the desk's thread touches it.
        report: called now and then with the tokens written since the last call, also of rows that have not ended.
        died: called with the exception if the decoder breaks; does not return to the blocks.
        note: called with what the run's manifest should say, such as that memory ran out.
    """

    def __init__(
        self,
        decoder: Any,
        report: Callable[[int], None],
        died: Callable[[BaseException], None],
        note: Callable[[str], None] = lambda text: None,
    ):
        self.decoder, self.report, self.died, self.note = decoder, report, died, note
        self.inbox: SimpleQueue = SimpleQueue()
        self.outboxes: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Queue]] = {}
        self.reported, self.reported_at = decoder.row_steps, 0.0  # a decoder may have worked for an earlier wave
        self.thread = threading.Thread(target=self._work, name="decode", daemon=True)
        self.thread.start()

    def submit(self, requests: list) -> asyncio.Queue:
        """Queue a block's requests. Its completions arrive, in any order, on the queue given back."""
        loop, outbox = asyncio.get_running_loop(), asyncio.Queue()
        self.inbox.put((requests, loop, outbox))
        return outbox

    async def call(self, measure: Callable[[], Any]) -> Any:
        """What `measure` gives, called by the decode thread between two steps: model and hooks are its alone."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self.inbox.put((measure, loop, answer))
        return await answer

    def close(self) -> None:
        """End the thread once its work is done, and take the decoder's hooks off the model. Waits for it."""
        self.leave()
        self.decoder.close()

    def leave(self) -> Any:
        """End the thread once its work is done, and give the decoder back. Waits for it."""
        self.inbox.put((None, None, None))
        self.thread.join()
        return self.decoder

    def _work(self) -> None:
        try:
            while self._take(block=not self.decoder.busy):
                for done in self.decoder.step():
                    self._give(done)
                while self.decoder.notes:
                    self.note(self.decoder.notes.pop(0))
                if not self.decoder.busy or time.monotonic() - self.reported_at > REPORT_EVERY:
                    self._report()
        except BaseException as error:  # the engine's death ends the replica, whatever it was
            self.died(error)

    def _take(self, block: bool) -> bool:
        """Move what is in the inbox to the decoder, and answer calls; wait for work only when there is none.

        Returns:
            Whether to go on.
        """
        try:
            while True:
                asked, loop, reply = self.inbox.get(block=block)
                if asked is None:
                    return False
                if callable(asked):
                    self._answer(asked, loop, reply)
                    block = not self.decoder.busy
                    continue
                self.outboxes.update({request.key: (loop, reply) for request in asked})
                self.decoder.submit(asked)
                block = False
        except Empty:
            return True

    def _answer(self, measure: Callable[[], Any], loop: asyncio.AbstractEventLoop, answer: asyncio.Future) -> None:
        try:
            result = measure()
        except Exception as error:  # it belongs to whoever asked
            loop.call_soon_threadsafe(answer.set_exception, error)
        else:
            loop.call_soon_threadsafe(answer.set_result, result)

    def _give(self, done) -> None:
        loop, outbox = self.outboxes.pop(done.key)
        loop.call_soon_threadsafe(outbox.put_nowait, done)

    def _report(self) -> None:
        written, self.reported_at = self.decoder.row_steps, time.monotonic()
        if written > self.reported:
            self.report(written - self.reported)
            self.reported = written
