"""Does it run: every kind of row on the shipped model and on one of the real shape, eager and captured, in every way to
compute a step; whether captured steps write what eager ones do; and whether a step waits for the device."""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from gpu.found import Found
from gpu.rows import RULE, bank, conditions, lengths, mixed, prompts, random_model, shipped_prompts
from gpu.timing import seconds_of

from raybt.engine.anatomy import Anatomy
from raybt.engine.decode import Decoder
from raybt.engine.load import load_model
from raybt.engine.request import Completion, Request
from raybt.toy import MODEL_DIR

ORDER = (("none", False), ("none", True), ("kernels", False), ("kernels", True))
Tokens = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Bench:
    """A model, its rows, and the triggers that some of them wait for."""

    name: str
    anatomy: Anatomy
    rows: list[Request]
    triggers: tuple[tuple[int, ...], ...]
    slots: int

    def decoder(self, fusion: str | None, capture: bool) -> Decoder:
        length = max(len(row.prompt) + row.max_new_tokens for row in self.rows)
        vectors = bank(self.anatomy)
        return Decoder(self.anatomy, RULE, self.slots, length, vectors, self.triggers, fusion=fusion, capture=capture)

    def decoded(self, fusion: str | None, capture: bool) -> tuple[list[Completion], float, Decoder]:
        """All rows, the seconds that they took, and the decoder that wrote them, closed."""
        decoder = self.decoder(fusion, capture)
        done: list[Completion] = []
        try:
            seconds = seconds_of(lambda: done.extend(decoder.run(self.rows)), self.anatomy.device)
        finally:
            decoder.close()
        return done, seconds, decoder


def made(name: str, device: str, quick: bool) -> Bench:
    """64 rows of 8 conditions, and as many again that come as these end."""
    slots, new = (16, 6) if quick else (64, 48)
    if name == "shipped":
        anatomy = load_model(str(MODEL_DIR), dtype="bfloat16", device=device)
        texts = shipped_prompts(8)
    else:
        anatomy = random_model(device, quick)
        texts = prompts(8, anatomy.vocabulary, 20, 100)
    limits = [new] * slots + lengths(slots, new / 2, new)
    rows = mixed(texts, conditions(anatomy), limits)
    return Bench(name, anatomy, rows, common(anatomy, rows[:: len(conditions(anatomy))], slots), slots)


def common(anatomy: Anatomy, untouched: list[Request], slots: int) -> tuple[tuple[int, ...], ...]:
    """The tokens that untouched rows write most: triggers that will come."""
    decoder = Decoder(anatomy, RULE, slots, max(len(row.prompt) + row.max_new_tokens for row in untouched),
                      fusion="none", capture=False)  # fmt: skip
    try:
        counts = Counter(token for done in decoder.run(untouched) for token in done.token_ids[1:-1])
    finally:
        decoder.close()
    return tuple((token,) for token, _ in counts.most_common(6))


def parting(ours: Tokens, theirs: Tokens) -> tuple[int, int | None]:
    """Rows that differ, and the first step at which any does."""
    steps = [first_step(ours[key], theirs[key]) for key in theirs if ours.get(key, ()) != theirs[key]]
    return len(steps), min(steps, default=None)


def first_step(ours: tuple[int, ...], theirs: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))


class Runs:
    """The part's sections, and the tokens that earlier ones have written."""

    def __init__(self, found: Found, device: str, quick: bool):
        self.found, self.device = found, device
        self.bench = cache(lambda name: made(name, device, quick))
        self.tokens: dict[tuple[str, str, bool], Tokens] = {}

    def write(self, name: str, fusion: str, capture: bool) -> None:
        """Decode all rows, and hold them against what has been decoded before."""
        bench = self.bench(name)
        done, seconds, decoder = bench.decoded(fusion, capture)
        graphs, notes, used = len(decoder.graphs.graphs), list(decoder.notes), decoder.fusion
        errors = [f"{one.key}: {one.error}" for one in done if one.error]
        tokens = {one.key: one.token_ids for one in done}
        self.tokens[name, fusion, capture] = tokens
        row: dict[str, Any] = {"model": name, "asked": fusion, "fusion": used, "capture": capture, "graphs": graphs}
        row |= {"rows": len(done), "errors": errors[:3], "receipts": sum(bool(one.receipt) for one in done)}
        row |= {"tokens": sum(map(len, tokens.values())), "seconds": seconds, "notes": notes}
        for kind, other in (("eager", (name, fusion, False)), ("none", (name, "none", False))):
            if other in self.tokens and other != (name, fusion, capture):
                row[f"unlike_{kind}"], row[f"first_step_unlike_{kind}"] = parting(tokens, self.tokens[other])
        wants_graphs = capture and self.device != "cpu"
        row["ok"] = not errors and set(tokens) == {one.key for one in bench.rows}
        row["ok"] &= not row.get("unlike_eager") and bool(graphs) == wants_graphs
        row["ok"] &= used == fusion or self.device == "cpu"  # where no kernels run
        self.found.add("decoded", **row)

    def nothing_waits(self, name: str, fusion: str, capture: bool) -> None:
        """One steady step during which torch raises where the host would wait for the device."""
        bench = self.bench(name)
        decoder, why = bench.decoder(fusion, capture), None
        try:
            decoder.submit(bench.rows[: bench.slots])
            for _ in range(3 if self.device == "cpu" else 8):
                decoder.step()
            if self.device != "cpu":
                torch.cuda.set_sync_debug_mode("error")
            decoder.step()
        except RuntimeError as error:
            why = str(error)[:500]
        finally:
            if self.device != "cpu":
                torch.cuda.set_sync_debug_mode("default")
            decoder.close()
        self.found.add("waits", model=name, fusion=fusion, capture=capture, why=why, ok=why is None)

    def refused_capture(self) -> None:
        """A layer that waits for the device cannot be captured: the step goes on eagerly, and says so."""
        bench = self.bench("shipped")
        head = bench.anatomy.model.get_output_embeddings()
        waits = head.register_forward_hook(lambda _module, _given, logits: logits if logits.isnan().any() else None)
        try:
            done, _, decoder = bench.decoded("none", True)
        finally:
            waits.remove()
        tokens = {one.key: one.token_ids for one in done}
        notes, graphs = list(decoder.notes), len(decoder.graphs.graphs)
        unlike, _ = parting(tokens, self.tokens.get(("shipped", "none", False), tokens))
        ok = not unlike and not graphs and bool(notes) == (self.device != "cpu")
        self.found.add("refused_capture", notes=notes, graphs=graphs, unlike_eager=unlike, ok=ok)


def run(found: Found, device: str, quick: bool) -> None:
    runs = Runs(found, device, quick)
    for name in ("shipped", "random"):
        for fusion, capture in ORDER:
            how = f"{name}, {fusion}, {'captured' if capture else 'eager'}"
            found.section(how, lambda n=name, f=fusion, c=capture: runs.write(n, f, c), 40)
        for fusion in ("none", "kernels"):
            found.section(f"waits: {name}, {fusion}", lambda n=name, f=fusion: runs.nothing_waits(n, f, True), 20)
    found.section("waits: eager", lambda: runs.nothing_waits("shipped", "none", False), 20)
    if not quick:  # a minute on a CPU
        found.section("shipped, compiled", lambda: runs.write("shipped", "compiled", True), 60, needs=20)
    found.section("a capture that fails", runs.refused_capture, 20)  # last: what it breaks breaks nothing else
    rows = found.rows("decoded")
    good = sum(row["ok"] for row in rows)
    found.headline(f"{good} of {len(rows)} ways to decode ran, receipts and captures right")
    found.headline(
        f"{sum(row['ok'] for row in found.rows('waits'))} of {len(found.rows('waits'))} steps wait for nothing"
    )
