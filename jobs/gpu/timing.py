"""What a card does, and what a step takes: wall time between two moments at which the device has nothing left to do."""

import time
from collections.abc import Callable
from typing import Any

import torch
from gpu.floor import Speeds
from gpu.rows import GOLDEN, RULE, prompts

from raybt.engine.anatomy import Anatomy
from raybt.engine.decode import Decoder
from raybt.engine.request import Request, Term

WARM = 10
"""Steps before the clock starts: kernels compile, graphs are captured."""


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Mean wall seconds of a call."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - start) / repeats


def speeds_of(device: torch.device, quick: bool) -> Speeds:
    """A copy of a GiB, and a bf16 product of two 8192 x 8192 matrices; quick: of little ones."""
    source = torch.ones(2**22 if quick else 2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = 256 if quick else 8192
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    for work in (lambda: target.copy_(source), lambda: torch.mm(a, b, out=out)):
        seconds_of(work, device, 3)
    moved = 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device, 20)
    return Speeds(moved, 2 * side**3 / seconds_of(lambda: torch.mm(a, b, out=out), device, 20))


def terms_on(anatomy: Anatomy, sites: str) -> tuple[Term, ...]:
    """`none`, `one` or `all` of the attention and MLP sites, scaled."""
    every = [site for site in anatomy.sites if site.startswith(("attn.", "mlp."))]
    chosen = {"none": [], "one": every[len(every) // 2 :][:1], "all": every}[sites]
    return tuple(Term(site, "scale", 0.9) for site in chosen)


def filled(
    anatomy: Anatomy, slots: int, context: int, steps: int, terms: list[tuple[Term, ...]], **options: Any
) -> Decoder:
    """A decoder with a row in every slot for the next steps, warmed up.

    Slots then attend to `context` tokens on average over `steps` steps, from half to one and a half of it.
    """
    before = max(3, context - WARM - steps // 2)
    texts = prompts(min(16, slots), anatomy.vocabulary, max(2, before // 2), before + before // 2)
    new = WARM + 3 * steps
    decoder = Decoder(anatomy, RULE, slots, before + before // 2 + new, **options)
    decoder.submit(
        Request(str(i), texts[i % len(texts)], new, (i * GOLDEN) % 2**64, terms[i % len(terms)]) for i in range(slots)
    )
    try:
        for _ in range(WARM):
            decoder.step()
    except BaseException:
        decoder.close()
        raise
    return decoder


def step_seconds(decoder: Decoder, steps: int) -> float:
    """Wall seconds of a step, all that the host does included."""
    return seconds_of(decoder.step, decoder.anatomy.device, steps)


def replay_seconds(decoder: Decoder, steps: int) -> float | None:
    """Seconds of a captured step on the device alone; None where none was captured. Moves the rows on."""
    graphs = list(decoder.graphs.graphs.values())
    return seconds_of(graphs[-1].replay, decoder.anatomy.device, steps) if graphs else None
