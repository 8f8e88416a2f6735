"""A whole grid, prompts, refill and tail included, beside the steady step; the plain ways; a scan of 120 events."""

import time
from functools import cache
from itertools import product

import torch
from bench_scan import full_pass
from gpu.found import Found
from gpu.plain import rivals
from gpu.rows import GOLDEN, RULE, lengths, prompts, random_model
from gpu.timing import filled, seconds_of, step_seconds

from raybt.engine.anatomy import Anatomy
from raybt.engine.decode import Decoder
from raybt.engine.memory import release
from raybt.engine.probe.scan import scan
from raybt.engine.request import Completion, Request, Term, scaled

AIM = 0.75  # of the steady step's tokens a second
SUBSETS = {
    "mlp_27_only": ["mlp.27"],
    "attn_27_only": ["attn.27"],
    "attn_no_early": ["attn.15", "attn.17", "attn.19", "attn.27"],
    "mlp_late_cluster": [f"mlp.{layer}" for layer in (19, 20, 22, 23, 24, 27)],
    "phase1_full": [*(f"attn.{layer}" for layer in (0, 1, 15, 17, 19, 27)),
                    *(f"mlp.{layer}" for layer in (19, 20, 22, 23, 24, 27))],
}  # fmt: skip
"""As in configs/phase2_literal.yaml, which takes PyYAML to read."""


class Sizes:
    """The study's sweeps: problems, samples; a row's tokens are geometric with a mean, cut at the cap."""

    def __init__(self, quick: bool):
        self.problems, self.samples, self.slots = (4, 1, 16) if quick else (120, 4, 256)
        self.mean, self.cap = (6, 12) if quick else (300, 512)
        self.prompt = (10, 24) if quick else (80, 200)
        self.steps, self.plain = (3, 4) if quick else (64, 64)
        self.text, self.texts, self.events = (48, 2, 2) if quick else (400, 15, 8)
        self.seconds = 10 if quick else 45


def literal(anatomy: Anatomy) -> list[tuple[Term, ...]]:
    """phase2_literal.yaml's ten conditions; on a model of fewer layers, at the same depth."""

    def terms(subset: str, factor: float) -> tuple[Term, ...]:
        kinds = [site.partition(".") for site in SUBSETS[subset]]
        sites = dict.fromkeys(f"{kind}.{int(layer) * anatomy.n_layers // 28}" for kind, _, layer in kinds)
        return scaled((site, factor) for site in sites)

    removed = [terms(subset, 0.0) for subset in SUBSETS]
    return [(), *removed, *(terms("mlp_late_cluster", factor) for factor in (0.25, 0.5, 0.75, 0.9))]


def rows_of(anatomy: Anatomy, size: Sizes) -> list[Request]:
    """Problem by problem, as a plan has them."""
    texts, terms = prompts(size.problems, anatomy.vocabulary, *size.prompt), literal(anatomy)
    cells = list(product(range(size.problems), range(size.samples), range(len(terms))))
    limits = lengths(len(cells), size.mean, size.cap)
    return [
        Request(f"{p}-{s}-{c}", texts[p], limit, ((p * 64 + s) * GOLDEN) % 2**64, terms[c])
        for (p, s, c), limit in zip(cells, limits, strict=True)
    ]


def mean_context(rows: list[Request]) -> float:
    """Tokens that a slot attends to, over all steps of all rows."""
    steps = sum(row.max_new_tokens for row in rows)
    return sum(row.max_new_tokens * (len(row.prompt) + row.max_new_tokens / 2) for row in rows) / steps


def grid(found: Found, anatomy: Anatomy, size: Sizes) -> None:
    rows = rows_of(anatomy, size)
    context = round(mean_context(rows))
    steady = filled(anatomy, size.slots, context, size.steps, literal(anatomy))
    try:
        best = size.slots / step_seconds(steady, size.steps)
    finally:
        steady.close()
    del steady
    release(anatomy.device)
    decoder = Decoder(anatomy, RULE, size.slots, max(len(row.prompt) + row.max_new_tokens for row in rows))
    done: list[Completion] = []
    decoder.submit(rows)
    start = time.perf_counter()
    try:
        while decoder.busy and time.perf_counter() - start < size.seconds:
            done += decoder.step()
    finally:
        decoder.close()
    seconds = time.perf_counter() - start
    tokens, expected = sum(len(one.token_ids) for one in done), sum(row.max_new_tokens for row in rows)
    errors = [f"{one.key}: {one.error}" for one in done if one.error]
    whole = len(done) == len(rows)
    speed = (tokens if whole else decoder.row_steps) / seconds
    found.add("grid", rows=len(rows), finished=len(done), tokens=tokens, mean_length=expected / len(rows), cap=size.cap,
              context=context, seconds=seconds, tokens_per_second=speed, steady_tokens_per_second=best,
              ratio=speed / best, occupancy=decoder.row_steps / max(1, decoder.slot_steps), fusion=decoder.fusion,
              graphs=len(decoder.graphs.graphs), steps=decoder.steps, notes=list(decoder.notes), errors=errors[:3],
              ok=not errors and (not whole or tokens == expected))  # fmt: skip
    found.add("literal", rows=4_800, seconds_at_these_lengths=4_800 * expected / len(rows) / speed,
              seconds_if_all_reach_512=4_800 * 512 / speed)  # fmt: skip
    found.headline(
        f"{len(done):,} of {len(rows):,} rows in {seconds:.0f} s: {speed:,.0f} tokens/s, {speed / best:.0%} of the "
        f"steady step's {best:,.0f} (aim {AIM:.0%})"
    )


def plain_ways(found: Found, anatomy: Anatomy, size: Sizes) -> None:
    ours = next((row["tokens_per_second"] for row in found.rows("grid")), None)

    def told(way: str, speed: float) -> None:
        found.add("rivals", way=way, tokens_per_second=speed, ours_over_it=ours and ours / speed)
        if ours:
            found.headline(f"{ours / speed:,.0f}x of ({way}), {speed:,.0f} tokens/s")

    rivals(anatomy, size.plain, told)


def scans(found: Found, anatomy: Anatomy, size: Sizes) -> None:
    """Every attention and MLP zeroed before each event, against one full pass for each."""
    device = anatomy.device
    sites = [site for site in anatomy.sites if site.startswith(("attn.", "mlp."))]
    terms = [(Term(site),) for site in sites]
    texts = prompts(size.texts, anatomy.vocabulary, size.text + 1, size.text + 1, seed=2)
    events = tuple(size.text - 8 * step for step in range(size.events - 1, -1, -1))
    scan(anatomy, texts[0], events, terms)  # warm
    kept: list[float] = []
    work = lambda: kept.extend(float(scan(anatomy, text, events, terms).floor().max()) for text in texts)  # noqa: E731
    ours = seconds_of(work, device)
    some = sites[:: max(1, len(sites) // 4)]
    with torch.device(device):
        full_pass(anatomy, texts[0][: size.text], sites[0], keep=1)
        each = seconds_of(lambda: [full_pass(anatomy, texts[0][: size.text], site, keep=1) for site in some], device)
    passes = size.texts * size.events * (len(sites) + 1)
    plain = each / len(some) * passes
    found.add("scan", events=size.texts * size.events, sites=len(sites), seconds=ours, plain_seconds=plain,
              ratio=plain / ours, noise_floor=max(kept))  # fmt: skip
    found.headline(f"scan of {size.texts * size.events} events: {ours:.1f} s, {plain / ours:,.0f}x of full passes")


def run(found: Found, device: str, quick: bool) -> None:
    anatomy, size = cache(lambda: random_model(device, quick)), Sizes(quick)
    found.section("grid", lambda: grid(found, anatomy(), size), size.seconds + 25)
    found.section("rivals", lambda: plain_ways(found, anatomy(), size), 25)
    found.section("scan", lambda: scans(found, anatomy(), size), 30)
