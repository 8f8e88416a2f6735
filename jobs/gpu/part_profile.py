"""Where a step's time goes: the kernels that take most of captured steps, of an eager step and of a refill."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from gpu.found import Found
from gpu.rows import GOLDEN, RULE, prompts, random_model
from gpu.timing import filled, terms_on, wait
from torch.profiler import ProfilerActivity, profile

from raybt.engine.anatomy import Anatomy
from raybt.engine.decode import Decoder
from raybt.engine.request import Request

TOP = 40


def profiled(found: Found, name: str, work: Callable[[], Any], anatomy: Anatomy, steps: int) -> None:
    """Run some work under the profiler; its table goes to profile.txt beside the numbers."""
    cuda = anatomy.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    wait(anatomy.device)
    with profile(activities=activities) as seen:
        work()
        wait(anatomy.device)
    events: list[Any] = list(seen.key_averages())
    if cuda:  # kernels alone: operators carry the time of the kernels that they launch, too
        events = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    events.sort(key=lambda event: -getattr(event, own))
    top = [{"name": one.key[:160], "calls": one.count, "us_a_step": getattr(one, own) / steps} for one in events]
    each, calls = sum(one["us_a_step"] for one in top), sum(one["calls"] for one in top) / steps
    lines = [f"{one['us_a_step']:10.1f} us a step {one['calls']:6d} calls  {one['name']}" for one in top[:TOP]]
    head = f"{name}: {each:,.0f} us a step, {calls:,.0f} calls a step"
    print("\n".join([head, *lines[:15]]), flush=True)
    with found.file.with_name("profile.txt").open("a") as file:
        file.write("\n".join([head, *lines, "", ""]))
    found.add("profiles", of=name, steps=steps, us_a_step=each, calls_a_step=calls)
    for one in top[:TOP]:
        found.keep("kernels", of=name, **one)
    found.headline(head)


def steps_of(found: Found, anatomy: Anatomy, fusion: str, capture: bool, sites: str, quick: bool) -> None:
    slots, context, steps = (16, 32, 2) if quick else (256, 350, 5 if capture else 1)
    decoder = filled(anatomy, slots, context, 16, [terms_on(anatomy, sites)], fusion=fusion, capture=capture)
    try:
        served = fusion if decoder.fusion == fusion else f"{fusion} asked, {decoder.fusion} served"
        name = f"{'captured' if capture else 'eager'}, {served}, {sites} on"
        profiled(found, name, lambda: [decoder.step() for _ in range(steps)], anatomy, steps)
    finally:
        decoder.close()


def refill(found: Found, anatomy: Anatomy, quick: bool) -> None:
    """A step that starts a row of a new prompt in a quarter of the slots."""
    slots, new = (16, 8) if quick else (256, 32)
    texts = prompts(slots // 4, anatomy.vocabulary, *((10, 24) if quick else (80, 200)))
    decoder = Decoder(anatomy, RULE, slots, max(map(len, texts)) + new)
    terms = terms_on(anatomy, "one")
    try:
        decoder.submit(Request(str(i), (5, 6, 7), new, i * GOLDEN % 2**64, terms) for i in range(slots * 3 // 4))
        for _ in range(6):
            decoder.step()
        decoder.submit(Request(f"new {i}", text, new, i, terms) for i, text in enumerate(texts))
        profiled(found, f"refill of {len(texts)} rows", decoder.step, anatomy, 1)
    finally:
        decoder.close()


def run(found: Found, device: str, quick: bool) -> None:
    found.file.with_name("profile.txt").unlink(missing_ok=True)
    anatomy = cache(lambda: random_model(device, quick))
    for fusion, capture, sites in (("kernels", True, "none"), ("kernels", True, "all"), ("none", True, "none"),
                                   ("kernels", False, "none")):  # fmt: skip
        name = f"{fusion}, {sites} on, {'captured' if capture else 'eager'}"
        found.section(name, lambda f=fusion, c=capture, s=sites: steps_of(found, anatomy(), f, c, s, quick), 25)
    found.section("refill", lambda: refill(found, anatomy(), quick), 25)
