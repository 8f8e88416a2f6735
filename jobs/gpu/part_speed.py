"""How fast a step is: at several numbers of slots, in every way to compute it, under no, one and all sites."""

from functools import cache
from itertools import product
from typing import Any

import torch
from gpu.floor import floor_seconds, shape_of
from gpu.found import Found
from gpu.rows import random_model
from gpu.timing import filled, replay_seconds, speeds_of, step_seconds, terms_on

from raybt.engine.anatomy import Anatomy

CONTEXT, STEPS = 350, 64
QUICK_CONTEXT, QUICK_STEPS = 40, 4
BEST, OTHERS, SITES = 256, (128, 512, 64), ("none", "all")
PLAIN = ("kernels", "none")
Way = tuple[int, str, str, bool]  # slots, fusion, sites, capture


def ways(quick: bool) -> list[Way]:
    """All, most wanted first. What torch compiles takes most of a minute, once for each way: not all of that fits."""
    if quick:
        return [*((32, f, s, True) for f, s in product(PLAIN, SITES)), (32, "compiled", "none", True),
                (16, "none", "one", False)]  # fmt: skip
    found = [(BEST, f, s, True) for f, s in product(PLAIN, SITES)]
    found += [(BEST, "compiled", "none", True)]
    found += [(n, "kernels", s, True) for n, s in product(OTHERS, SITES)]
    found += [(BEST, "compiled", "all", True)]
    found += [(n, "none", s, True) for n, s in product(OTHERS, SITES)]
    found += [(BEST, f, "none", False) for f in PLAIN]
    found += [(n, f, "one", True) for f, n in product(PLAIN, (BEST, *OTHERS))]
    found += [(n, f, s, False) for n, f, s in product((BEST, *OTHERS), PLAIN, ("none", "one", "all"))]
    found += [(n, "compiled", s, True) for n, s in product((BEST, *OTHERS), ("none", "one", "all"))]
    return list(dict.fromkeys(found))


def timed(anatomy: Anatomy, way: Way, context: int, steps: int) -> dict[str, Any]:
    """A step's wall time, and its time on the device alone where it is captured."""
    slots, fusion, sites, capture = way
    terms = [terms_on(anatomy, sites)]
    decoder = filled(anatomy, slots, context, steps, terms, fusion=fusion, capture=capture)
    try:
        seconds = step_seconds(decoder, steps)
        alone = replay_seconds(decoder, steps)
        row = {"slots": slots, "asked": fusion, "fusion": decoder.fusion, "sites": sites, "capture": capture}
        row |= {"graphs": len(decoder.graphs.graphs), "ms": 1e3 * seconds}
        row |= {"ms_on_device": None if alone is None else 1e3 * alone, "tokens_per_second": slots / seconds}
        return row | {"notes": list(decoder.notes)}
    finally:
        decoder.close()


def run(found: Found, device: str, quick: bool) -> None:
    anatomy = cache(lambda: random_model(device, quick))
    speeds = cache(lambda: speeds_of(torch.device(device), quick))
    context, steps = (QUICK_CONTEXT, QUICK_STEPS) if quick else (CONTEXT, STEPS)

    def measure(way: Way) -> None:
        if way[1] == "compiled":
            torch.compiler.reset()  # else it gives up after so many shapes
        row = timed(anatomy(), way, context, steps)
        least = floor_seconds(shape_of(anatomy().model), way[0], context, speeds())
        found.add("steps", **row, context=context, share_of_floor=1e3 * least / row["ms"])

    def card() -> None:
        model = anatomy().model
        found.add("card", bytes_per_second=speeds().bytes_per_second,
                  operations_per_second=speeds().operations_per_second,
                  floor_tokens_per_second=BEST / floor_seconds(shape_of(model), BEST, context, speeds()))  # fmt: skip

    found.section("card", card, 40)
    for way in ways(quick):
        slots, fusion, sites, capture = way
        name = f"{slots} slots, {fusion}, {sites} on, {'captured' if capture else 'eager'}"
        slow = fusion == "compiled"
        found.section(name, lambda way=way: measure(way), 100 if slow else 30, needs=40 if slow and not quick else 5)
    rows = found.rows("steps")
    for sites in SITES:
        best = max(
            (row for row in rows if row["sites"] == sites), key=lambda row: row["tokens_per_second"], default=None
        )
        if best:
            found.headline(f"{sites} on: {best['tokens_per_second']:,.0f} tokens/s at {best['slots']} slots, "
                           f"{best['fusion']}, {best['share_of_floor']:.0%} of the floor")  # fmt: skip
