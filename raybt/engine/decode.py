"""The decode loop: rows of many conditions stream through a fixed number of slots."""

import time
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, split
from raybt.engine.attention import decoding
from raybt.engine.bank import Bank
from raybt.engine.cache import GRAIN, Prefixes, SlotCache, rounded
from raybt.engine.features import reach
from raybt.engine.graph import Graphs
from raybt.engine.hooks import Hooks
from raybt.engine.kernels import HAVE_TRITON
from raybt.engine.masks import Masks
from raybt.engine.memory import is_out_of_memory
from raybt.engine.noise import Race, integers
from raybt.engine.packed import packed, packs_of
from raybt.engine.receipts import Triggers, receipt_error
from raybt.engine.request import Completion, Request, Sampling, failed
from raybt.engine.sampling import choose, fused
from raybt.engine.slots import Slots

LOOK_EVERY = 8
"""Steps between two looks at the finished flags on a GPU, where each look waits for the device."""
WINDOW_GRAIN = 256


class Decoder:
    """Writes completions for a queue of rows, each under its own intervention.

    Every step is one forward pass of the stock model over all slots, whatever their conditions. A slot
    whose row ends is refilled from the queue at once. Tokens do not depend on which rows share a batch.

    Args:
        anatomy: the model and its sites.
        sampling: how tokens are chosen.
        slots: rows decoded side by side, 16 or more; halved where memory runs out, see `notes`.
        length: longest row that must fit: prompt and new tokens together.
        bank: the vectors that rows' terms name.
        triggers: token-id n-grams for rows whose positions are `after_trigger`.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        sampling: Sampling,
        slots: int = 64,
        length: int = 1024,
        bank: Bank | None = None,
        triggers: Triggers = (),
    ):
        assert slots >= GRAIN, f"batches under {GRAIN} make a row's logits depend on its neighbours"
        self.anatomy, self.sampling, self.length = anatomy, sampling, length
        self.bank, self.triggers = bank, tuple(triggers)
        self.reach = reach(anatomy.model.config)
        self.queue: deque[Request] = deque()
        self.notes: list[str] = []
        self.look_every = LOOK_EVERY if anatomy.device.type == "cuda" else 1
        self.steps = self.row_steps = self.slot_steps = 0
        self.draw = None if sampling.greedy else fused(anatomy.device)
        self.packs, self.masks = packs_of(anatomy.model), Masks(anatomy.model)
        self.captures = anatomy.device.type == "cuda" and HAVE_TRITON and not split(anatomy)
        self.allocate(slots)

    @torch.inference_mode()
    def allocate(self, slots: int) -> None:
        """Everything whose size is a number of slots."""
        anatomy = self.anatomy
        self.hooks = Hooks(anatomy, slots, self.bank)
        self.prefixes = Prefixes(anatomy, self.hooks)
        self.cache = SlotCache(anatomy, slots, self.length)
        self.slots = Slots(slots, rounded(self.length), anatomy.eos_ids, anatomy.device, self.triggers)
        self.race = Race(slots, anatomy.vocabulary) if self.draw is None and not self.sampling.greedy else None
        self.draws = torch.zeros(slots, self.cache.capacity, dtype=torch.long, device=anatomy.device)
        self.graphs = Graphs(anatomy.device if self.captures else torch.device("cpu"))
        self.requests: list[Request | None] = [None] * slots
        self.started = [0.0] * slots

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
        refused: list[Completion] = []
        try:
            refused += self.refill()
            if any(self.requests):
                self.cache.window = self.window()
                self.graphs.run(self.captured_by(), self.advance)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(self.requests) < 2 * GRAIN:
                raise
            self.halve()
            return refused
        return refused + self.collect()

    def advance(self) -> None:
        """One token in every slot; on a GPU it reads and writes nothing but buffers on the device."""
        logits = self.forward()
        tokens, usable = self.choose(logits)
        self.slots.record(tokens, usable)

    def window(self) -> int:
        """Positions attended to at this step; on a GPU coarser, since each length is a graph of its own."""
        grain = WINDOW_GRAIN if self.captures else GRAIN
        return min(-(-self.slots.window() // grain) * grain, self.cache.capacity)

    def captured_by(self) -> tuple:
        """All that a step depends on beside what lies in buffers on the device."""
        hooks, slots = self.hooks, self.slots
        state = frozenset(hooks.used), frozenset(hooks.directed), hooks.resampling, slots.forcing, slots.watching
        return (self.cache.window, *state)

    def forward(self) -> Tensor:
        """Logits of every slot's next token, [slots, vocabulary]."""
        self.hooks.arm(self.slots.gate(), self.drawn())
        self.cache.stand(self.slots.positions)
        sight = self.masks(self.slots.positions, self.cache.window)
        with packed(self.packs), self.hooks.on(), decoding(self.anatomy.model, sight):
            output = self.anatomy.model(
                input_ids=self.slots.tokens[:, None],
                position_ids=self.slots.positions[:, None],
                attention_mask=sight.masks,
                past_key_values=self.cache,
                use_cache=True,
            )
        return output.logits[:, -1]

    def drawn(self) -> Tensor | None:
        """[slots] this step's draws for `resample`, one at each input position."""
        return self.draws.gather(1, self.slots.positions[:, None])[:, 0] if self.hooks.resampling else None

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [slots], and whether the logits were usable [slots]."""
        if self.draw is not None:
            return self.draw(logits, self.sampling, self.slots.stream, self.slots.steps)
        return choose(logits, self.sampling, self.race.take().to(logits.device) if self.race else None)

    @torch.inference_mode()
    def refill(self) -> list[Completion]:
        """Put queued rows into free slots; give back the rows that can't run, as errors."""
        refused, started = [], []
        for slot, request in enumerate(self.requests):
            while request is None and self.queue:
                request = self.queue.popleft()
                problem = self.refusal(request)
                if problem:
                    refused.append(failed(request, problem))
                    request = None
                else:
                    self.start(slot, request)
                    started.append((slot, request))
        if started:
            self.slots.start(started)
        return refused

    def refusal(self, request: Request) -> str | None:
        needed = len(request.prompt) + request.max_new_tokens
        sites = [term.site for term in request.active]
        unknown = [site for site in sites if site not in self.hooks.index]
        absent = [str(t.vector) for t in request.active if t.vector is not None and t.vector not in self.hooks.bank]
        if not request.prompt or request.max_new_tokens < 1:
            return "a row needs at least one prompt token and one new token"
        if needed > self.cache.capacity:
            return f"prompt and new tokens need {needed} positions; the slots hold {self.cache.capacity}"
        if self.reach is not None and needed > self.reach:
            return (
                f"prompt and new tokens need {needed} positions; beyond {self.reach} this model's rows disturb others"
            )
        if len(set(sites)) < len(sites):
            return "a site may carry one operation in a row"
        if unknown:
            return f"the model has no site {', '.join(unknown)}"
        return f"the bank has no vector {', '.join(absent)}" if absent else None

    def start(self, slot: int, request: Request) -> None:
        self.requests[slot], self.started[slot] = request, time.perf_counter()
        prefix = self.prefixes.get(request)
        if prefix.store is not None:
            self.cache.fill(slot, prefix.store)
        self.hooks.assign(slot, request.active, prefix.touched)
        if self.race:
            self.race.start(slot, request.stream)
        if any(term.operation == "resample" for term in request.active):
            self.draws[slot] = torch.from_numpy(integers(request.stream, self.cache.capacity)).to(self.draws.device)

    def collect(self) -> list[Completion]:
        """Finished rows, taken out of their slots. Looks at the device only every few steps."""
        occupied = [slot for slot, request in enumerate(self.requests) if request is not None]
        if not occupied:
            return []
        self.slots.advanced()
        self.steps += 1
        self.row_steps += len(occupied)
        self.slot_steps += len(self.requests)
        if self.steps % self.look_every:
            return []
        ended = self.slots.ended(occupied)
        if not ended:
            return []
        taken, receipts = self.slots.take(ended), self.hooks.receipts(ended)
        return [self.finish(slot, *row, receipt) for slot, row, receipt in zip(ended, taken, receipts, strict=True)]

    def finish(self, slot: int, written: list[int], usable: bool, receipt: dict[str, int]) -> Completion:
        request = self.requests[slot]
        assert request is not None
        self.requests[slot] = None
        if self.race:
            self.race.free(slot)
        seconds = time.perf_counter() - self.started[slot]
        if not usable:
            self.cache.clear(slot)
        error = None if usable else "the model gave NaN or infinite logits"
        error = error or receipt_error(request, receipt, written, self.triggers)
        if error:
            return Completion(request.key, tuple(written), "error", receipt, error, seconds)
        reason = "eos" if written[-1] in self.anatomy.eos_ids else "length"
        return Completion(request.key, tuple(written), reason, receipt, None, seconds)

    def halve(self) -> None:
        """Memory ran out: half the slots, and the rows in flight from their start (their tokens stay the same)."""
        slots = len(self.requests) // 2 // GRAIN * GRAIN
        self.notes.append(f"out of memory with {len(self.requests)} slots; went on with {slots}")
        self.queue.extendleft(reversed([request for request in self.requests if request is not None]))
        self.close()
        del self.cache, self.prefixes, self.slots, self.race, self.draws, self.graphs
        if self.anatomy.device.type == "cuda":
            torch.cuda.empty_cache()
        self.allocate(slots)

    def close(self) -> None:
        """Take the hooks off the model."""
        self.hooks.remove()
