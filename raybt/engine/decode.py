"""The decode loop: rows of many conditions stream through a fixed number of slots."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, split
from raybt.engine.attention import decoding
from raybt.engine.bank import Bank
from raybt.engine.cache import GRAIN, SlotCache, rounded
from raybt.engine.exits import Exits
from raybt.engine.features import reach
from raybt.engine.fusion import compiled, fused, swaps_of
from raybt.engine.graph import Graphs, Key
from raybt.engine.hooks import Hooks
from raybt.engine.kernels import by_triton
from raybt.engine.masks import Masks, Sight, Unmasked
from raybt.engine.memory import is_out_of_memory, release
from raybt.engine.noise import Race, integers
from raybt.engine.packed import packed, packs_of
from raybt.engine.prefill import Prefixes
from raybt.engine.receipts import Triggers
from raybt.engine.refusal import refusal
from raybt.engine.request import Completion, Request, Sampling, failed
from raybt.engine.sampling import choose, kernel_for
from raybt.engine.slots import Slots, Standing, columns_of
from raybt.engine.transfer import Fetched, sent

WINDOW_GRAIN = 256  # of attended lengths on a GPU, where each is a graph of its own


class Decoder:
    """Writes completions for a queue of rows, each under its own intervention.

    Every step is one forward pass of the stock model over all slots, whatever their conditions. A slot
    whose row ends is refilled from the queue at once. Tokens do not depend on which rows share a batch.

    On a GPU nothing here waits for the step just launched: the host looks at how slots stand one step behind, and what
    ended rows have written is copied out while later steps run.

    Args:
        anatomy: the model and its sites.
        sampling: how tokens are chosen.
        slots: rows decoded side by side, 16 or more; halved where memory runs out, see `notes`.
        length: longest row that must fit: prompt and new tokens together.
        bank: the vectors that rows' terms name.
        triggers: token-id n-grams for rows whose positions are `after_trigger`.
        fusion: one of `fusion.FUSIONS`; None takes the one that was proved when the model was loaded.
        capture: on a GPU, launch steps as graphs.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        sampling: Sampling,
        slots: int = 64,
        length: int = 1024,
        bank: Bank | None = None,
        triggers: Triggers = (),
        fusion: str | None = None,
        capture: bool = True,
    ):
        assert slots >= GRAIN, f"batches under {GRAIN} make a row's logits depend on its neighbours"
        self.anatomy, self.sampling, self.length = anatomy, sampling, length
        self.bank, self.triggers = bank, tuple(triggers)
        self.kernels = by_triton(anatomy.device) and not split(anatomy)
        self.fusion = anatomy.fusion if fusion is None else fusion
        self.reach = reach(anatomy.model.config)
        self.queue: deque[Request] = deque()
        self.notes: list[str] = []
        if self.fusion == "kernels" and not self.kernels:
            self.fusion = "none"
            self.notes.append("fused kernels need a GPU and Triton; steps are computed by stock modules")
        self.steps = self.row_steps = self.slot_steps = 0
        self.draw = None if sampling.greedy else kernel_for(anatomy.device)
        self.packs = [] if self.fusion == "compiled" else packs_of(anatomy.model)  # not all torch can trace them
        self.masks = Masks(anatomy.model)
        self.swaps = swaps_of(anatomy.model, self.fusion)
        self.model = compiled(anatomy.model) if self.fusion == "compiled" else anatomy.model
        self.captures = capture and self.kernels
        self.allocate(slots)

    @torch.inference_mode()
    def allocate(self, slots: int) -> None:
        """Everything whose size is a number of slots."""
        anatomy, device = self.anatomy, self.anatomy.device
        self.hooks = Hooks(anatomy, slots, self.bank, kernel=self.kernels and self.fusion != "compiled")
        self.prefixes = Prefixes(anatomy, self.hooks, self.kernels, self.reach)
        self.cache = SlotCache(anatomy, slots, self.length)
        self.slots = Slots(slots, rounded(self.length), anatomy.eos_ids, device, self.triggers)
        self.race = Race(slots, anatomy.vocabulary) if self.draw is None and not self.sampling.greedy else None
        self.draws = torch.zeros(slots, self.cache.capacity, dtype=torch.long, device=device)
        self.unmasked: Unmasked | None = None
        self.graphs = Graphs(device, self.captures, self.notes.append)
        self.requests: list[Request | None] = [None] * slots
        self.started = [0.0] * slots
        self.tenants = [0] * slots  # rows that each slot has had
        self.exits = Exits(self.hooks, anatomy.eos_ids, self.triggers)

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
        return bool(self.queue or self.exits.leaving) or any(self.requests)

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """Refill free slots, write one token in every slot, give back the rows that ended."""
        refused: list[Completion] = []
        full = False
        try:
            self.refill(refused)
            if any(self.requests):
                self.cache.window = self.window()
                self.graphs.run(self.captured_by(), self.advance)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(self.requests) < 2 * GRAIN:
                raise
            full = True  # the slots are made anew outside: the error holds frames, and these what was allocated
        return refused + (self.halve() if full else self.collect())

    def advance(self) -> None:
        """One token in every slot; on a GPU it reads and writes nothing but buffers on the device."""
        logits = self.forward()
        tokens, usable = self.choose(logits)
        self.slots.record(tokens, usable)

    def window(self) -> int:
        """Positions attended to at this step. Kernels read each slot to its own; else on a GPU it is coarser."""
        if self.unmasked:
            return self.cache.capacity
        grain = WINDOW_GRAIN if self.anatomy.device.type == "cuda" else GRAIN
        return min(-(-self.slots.window() // grain) * grain, self.cache.capacity)

    def captured_by(self) -> Key:
        """All that a step depends on beside what lies in buffers on the device."""
        awake, slots = self.hooks.awake, self.slots
        bank = self.hooks.banks if awake.directed else 0
        hooks = frozenset(awake.used), frozenset(awake.directed), awake.resampling
        return Key(self.cache.window, self.unmasked is None, bank, *hooks, slots.forcing, slots.watching)

    def forward(self) -> Tensor:
        """Logits of every slot's next token, [slots, vocabulary]."""
        self.hooks.arm(self.slots.gate(), self.drawn())
        self.cache.stand(self.slots.positions)
        sight = self.sight()
        with packed(self.packs), fused(self.swaps), self.hooks.on(), decoding(self.anatomy.model, sight):
            output = self.model(
                input_ids=self.slots.tokens[:, None],
                position_ids=self.slots.positions[:, None],
                attention_mask=sight.masks,
                past_key_values=self.cache,
                use_cache=True,
            )
        if isinstance(sight, Sight) and self.kernels and sight.superfluous:
            self.unmasked = Unmasked(self.masks, self.slots.positions)
        return output.logits[:, -1]

    def sight(self) -> Sight | Unmasked:
        """What each slot sees at this step."""
        if self.unmasked is None:
            return self.masks(self.slots.positions, self.cache.window)
        self.unmasked.move()
        return self.unmasked

    def drawn(self) -> Tensor | None:
        """[slots] this step's draws for `resample`, one at each input position."""
        return self.draws.gather(1, self.slots.positions[:, None])[:, 0] if self.hooks.awake.resampling else None

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [slots], and whether the logits were usable [slots]."""
        if self.draw is not None:
            return self.draw(logits, self.sampling, self.slots.stream, self.slots.steps)
        return choose(logits, self.sampling, self.race.take().to(logits.device) if self.race else None)

    @torch.inference_mode()
    def refill(self, refused: list[Completion]) -> None:
        """Put queued rows into free slots; the rows that can't run go to `refused`, as errors."""
        started = []
        for slot, request in enumerate(self.requests):
            while request is None and self.queue:
                request = self.queue.popleft()
                problem = refusal(request, self.hooks, self.cache.capacity, self.reach)
                if problem:
                    refused.append(failed(request, problem))
                    request = None
                else:
                    started.append((slot, request))
        if started:
            self.start(started)

    def start(self, started: list[tuple[int, Request]]) -> None:
        """Prefill what is not yet, and give slots their rows: what the device needs for them goes there in one go."""
        for slot, request in started:  # first of all, so that a row is not lost where memory runs out
            self.requests[slot], self.started[slot] = request, time.perf_counter()
            self.tenants[slot] += 1
        rows = [request for _, request in started]
        prefixes = [self.prefixes.get(row, chain(rows[i:], self.queue)) for i, row in enumerate(rows, 1)]
        for (slot, request), prefix in zip(started, prefixes, strict=True):
            if prefix.store is not None:
                self.cache.fill(slot, prefix.store)
            self.hooks.wake(slot, request.active)
            if self.race:
                self.race.start(slot, request.stream)
            if any(term.operation == "resample" for term in request.active):
                drawn = torch.from_numpy(integers(request.stream, self.cache.capacity))
                self.draws[slot] = sent(self.anatomy.device, drawn)[0]
        numbers, spans = self.hooks.columns([row.active for row in rows])
        state, slots = columns_of(rows), torch.tensor([slot for slot, _ in started])
        where, state, numbers, spans = sent(self.anatomy.device, slots, state, numbers, spans)
        self.slots.start(started, where, state)
        self.hooks.assign(where, (numbers, spans), [prefix.touched for prefix in prefixes])

    @torch.inference_mode()
    def collect(self) -> list[Completion]:
        """Rows that have ended. Their slots are free at once; they are given back when they have reached the host."""
        if any(self.requests):
            self.slots.advanced()
            self.steps += 1
            self.slot_steps += len(self.requests)
            self.exits.look(self.slots, self.tenants)
        for tenants, standing in self.exits.seen():
            self.leave(tenants, standing)
        return self.exits.arrived(wait=not any(self.requests))

    def leave(self, tenants: list[int], standing: Standing) -> None:
        """Free the slots of rows that had ended; rows that came since are not meant."""
        rows, ended = [], []
        for slot, request in enumerate(self.requests):
            if request is None or tenants[slot] != self.tenants[slot]:
                continue
            self.row_steps += 1
            if not standing.running[slot]:
                rows.append((request, self.started[slot], standing.steps[slot], bool(standing.usable[slot])))
                ended.append(slot)
        if not ended:
            return
        where = sent(self.anatomy.device, torch.tensor(ended))[0]
        copies = Fetched(self.slots.written.index_select(0, where), self.hooks.now.touched.index_select(1, where))
        self.exits.leave(rows, copies)
        self.slots.free(ended)
        for slot in ended:
            self.requests[slot] = None
            if self.race:
                self.race.free(slot)
            if not standing.usable[slot]:
                self.cache.clear(slot)

    def halve(self) -> list[Completion]:
        """Memory ran out: half the slots, and the rows in flight from their start (their tokens stay the same)."""
        slots = len(self.requests) // 2 // GRAIN * GRAIN
        self.notes.append(f"out of memory with {len(self.requests)} slots; went on with {slots}")
        done = self.exits.arrived(wait=True)
        self.queue.extendleft(reversed([request for request in self.requests if request is not None]))
        self.close()
        del self.cache, self.prefixes, self.slots, self.race, self.draws, self.graphs, self.unmasked
        release(self.anatomy.device)
        self.allocate(slots)
        return done

    def serves(self, sampling: Sampling, slots: int | None, length: int, triggers: Triggers) -> bool:
        """Whether other work can go on in these slots (None: any number), with all that was captured for them."""
        alike = sampling == self.sampling and tuple(triggers) == self.triggers and length <= self.length
        return alike and slots in (None, len(self.requests)) and not self.busy

    def adopt(self, bank: Bank) -> None:
        """Take the vectors of other work; what was made with the old ones is made again when it is needed."""
        self.bank = bank
        self.prefixes.clear()
        self.hooks.adopt(bank)
        self.graphs.keep(lambda key: key.bank in (0, self.hooks.banks))

    def close(self) -> None:
        """Take the hooks off the model."""
        self.hooks.remove()
