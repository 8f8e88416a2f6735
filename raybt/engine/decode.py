"""The decode loop: rows of many conditions stream through a fixed number of slots."""

import time
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy
from raybt.engine.cache import GRAIN, Prefixes, SlotCache, prefill, rounded
from raybt.engine.hooks import Hooks
from raybt.engine.noise import split64
from raybt.engine.request import Completion, Request, Sampling, failed
from raybt.engine.sampling import choose
from raybt.engine.slots import Slots

LOOK_EVERY = 8
"""Steps between two looks at the finished flags on a GPU, where each look waits for the device."""


class Decoder:
    """Writes completions for a queue of rows, each under its own intervention.

    Every step is one forward pass of the stock model over all slots, whatever their conditions. A slot
    whose row ends is refilled from the queue at once. Tokens do not depend on which rows share a batch.

    Args:
        anatomy: the model and its sites.
        sampling: how tokens are chosen.
        slots: rows decoded side by side, 16 or more.
        length: longest row that must fit: prompt and new tokens together.
    """

    def __init__(self, anatomy: Anatomy, sampling: Sampling, slots: int = 64, length: int = 1024):
        assert slots >= GRAIN, f"batches under {GRAIN} make a row's logits depend on its neighbours"
        self.anatomy, self.sampling = anatomy, sampling
        self.queue: deque[Request] = deque()
        self.prefixes = Prefixes(anatomy)
        self.hooks = Hooks(anatomy, slots)
        with torch.inference_mode():
            self.cache = SlotCache(prefill(anatomy, (0,)), slots, length)
        self.slots = Slots(slots, rounded(length), anatomy.eos_ids, anatomy.device)
        self.requests: list[Request | None] = [None] * slots
        self.started = [0.0] * slots
        self.look_every = LOOK_EVERY if anatomy.device.type == "cuda" else 1
        self.steps = 0
        self.row_steps = 0

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue rows; they start, in order, as slots come free."""
        self.queue.extend(requests)

    def run(self, requests: Iterable[Request] = ()) -> Iterator[Completion]:
        """Yield completions as they finish, until queue and slots are empty."""
        self.submit(requests)
        while self.busy:
            yield from self.step()

    @property
    def busy(self) -> bool:
        return bool(self.queue) or any(self.requests)

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """Refill free slots, write one token in every slot, give back the rows that ended."""
        refused = self.refill()
        if not any(self.requests):
            return refused
        logits = self.forward()
        tokens, usable = choose(logits, self.sampling, self.slots.streams, self.slots.steps)
        self.slots.record(tokens, usable)
        self.steps += 1
        self.row_steps += sum(request is not None for request in self.requests)
        return refused + self.collect()

    def forward(self) -> Tensor:
        """Logits of every slot's next token, [slots, vocabulary]."""
        self.hooks.arm(self.slots.gate())
        self.hooks.live = True
        self.cache.positions = self.slots.positions
        self.cache.window = min(self.slots.window(), self.cache.capacity)
        try:
            output = self.anatomy.model(
                input_ids=self.slots.tokens[:, None],
                position_ids=self.slots.positions[:, None],
                attention_mask=self.mask(),
                past_key_values=self.cache,
                use_cache=True,
            )
        finally:
            self.hooks.live = False
        return output.logits[:, -1]

    def mask(self) -> Tensor:
        """[slots, 1, 1, window]: each slot sees its own tokens, the new one included."""
        ahead = torch.arange(self.cache.window, device=self.anatomy.device)
        visible = (ahead <= self.slots.positions[:, None])[:, None, None]
        if self.anatomy.model.config._attn_implementation == "sdpa":
            return visible
        dtype = self.anatomy.model.dtype
        return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)

    @torch.inference_mode()
    def refill(self) -> list[Completion]:
        """Put queued rows into free slots; give back the rows that can't run, as errors."""
        refused = []
        for slot, request in enumerate(self.requests):
            while request is None and self.queue:
                request = self.queue.popleft()
                problem = self.refusal(request)
                if problem:
                    refused.append(failed(request, problem))
                    request = None
                else:
                    self.start(slot, request)
        return refused

    def refusal(self, request: Request) -> str | None:
        needed = len(request.prompt) + request.max_new_tokens
        unknown = [site for site in request.active if site not in self.hooks.index]
        if not request.prompt or request.max_new_tokens < 1:
            return "a row needs at least one prompt token and one new token"
        if needed > self.cache.capacity:
            return f"prompt and new tokens need {needed} positions; the slots hold {self.cache.capacity}"
        return f"the model has no site {', '.join(unknown)}" if unknown else None

    def start(self, slot: int, request: Request) -> None:
        prefix = self.prefixes.get(request.prompt)
        if prefix is not None:
            self.cache.fill(slot, prefix)
        self.hooks.assign(slot, request.active)
        self.slots.start(slot, request, split64([request.stream])[:, 0])
        self.requests[slot], self.started[slot] = request, time.perf_counter()

    def collect(self) -> list[Completion]:
        """Finished rows, taken out of their slots. Looks at the device only every few steps."""
        if self.steps % self.look_every:
            return []
        occupied = [slot for slot, request in enumerate(self.requests) if request is not None]
        ended = self.slots.ended(occupied)
        receipts = self.hooks.receipts(ended)
        return [self.finish(slot, receipt) for slot, receipt in zip(ended, receipts, strict=True)]

    def finish(self, slot: int, receipt: dict[str, int]) -> Completion:
        request = self.requests[slot]
        assert request is not None
        self.requests[slot] = None
        written, usable = self.slots.take(slot)
        seconds = time.perf_counter() - self.started[slot]
        if not usable:
            self.cache.clear(slot)
        error = None if usable else "the model gave NaN or infinite logits"
        error = error or receipt_error(request, receipt, len(written))
        if error:
            return Completion(request.key, tuple(written), "error", receipt, error, seconds)
        reason = "eos" if written[-1] in self.anatomy.eos_ids else "length"
        return Completion(request.key, tuple(written), reason, receipt, None, seconds)

    def close(self) -> None:
        """Take the hooks off the model."""
        self.hooks.remove()


def receipt_error(request: Request, receipt: dict[str, int], written: int) -> str | None:
    """What the hooks really did against what the row's positions demand; None where they agree."""
    steps = request.demanded_steps(written)
    demanded = dict.fromkeys(request.active, steps) if steps else {}
    if receipt == demanded:
        return None
    sites = sorted({*receipt, *demanded}, key=lambda site: (receipt.get(site, 0) == demanded.get(site, 0), site))
    site = sites[0]
    return (
        f"hook {site} changed its output at {receipt.get(site, 0)} steps where {demanded.get(site, 0)} were due; "
        "the row is void"
    )
