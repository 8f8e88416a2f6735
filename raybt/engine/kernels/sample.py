"""The exponential race of `raybt.engine.sampling`, noise and all, on a GPU: logits to tokens.

Noise is the dear part, so it is made only for tokens that can win. Four kernels:
`_survey` reads all logits once and keeps the highest logit and the mass of each group of 32 tokens;
`_plan` finds from these, a program a row, a weight below which no token can be the row's, and lists the other groups;
`_race` runs the race over the listed groups, many programs a row;
`_settle` joins their winners and runs again where the winner is outside the top-p set.

Weights are exp((logit - largest) / temperature): 1 for a row's likeliest tokens. These are in every top-p set, so the
row's winner scores at least what they do, and that takes a weight of at least their score times the least E there is.
And where the tokens below a weight have less than 1 - top_p of the mass, none of them is in the top-p set. How the work
is cut depends on the row's own logits and the vocabulary alone, so that a row's token depends on nothing else.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from raybt.engine.kernels.philox import any_below, exponential, philox, words_of
from raybt.engine.noise import WORDS, blocks
from raybt.engine.request import Sampling

GROUP = 32  # tokens that are kept or dropped together, 64 bytes of bfloat16; a multiple of a Philox block's 8 words
CHUNK = 128  # groups that a program of `_survey` reads
PARTS = 16  # programs of `_race` for a row
TILE = 64  # groups of a row raced over at once
STEPS = 8  # halvings of the 26 nats among which the top-p set ends: found to a tenth of a nat
MARGIN = 2.0**-14
"""Share of a row's mass by which the dropped tokens must miss top-p: sums here are good to some 2**-19 of it."""


@triton.jit
def _read(logits, ids, vocabulary, floor):
    """Logits in float32; minus infinity for those under the top-k floor and beyond the vocabulary, NaN kept."""
    value = tl.load(logits + ids, mask=ids < vocabulary, other=float("-inf")).to(tl.float32)
    return tl.where(value < floor, float("-inf"), value)


@triton.jit
def _floor_of(floors, row):
    floor = float("-inf")
    if floors is not None:
        floor = tl.load(floors + row)
    return floor


@triton.jit
def _survey(logits_ptr, floors, highest, masses, tops, stride, vocabulary, groups, sharp,
            GROUP: tl.constexpr, CHUNK: tl.constexpr):  # fmt: skip
    """Each group's highest logit, its mass relative to the chunk's highest, and that; a NaN makes its mass NaN."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    group = chunk * CHUNK + tl.arange(0, CHUNK)
    ids = group[:, None] * GROUP + tl.arange(0, GROUP)[None]
    value = _read(logits_ptr + row.to(tl.int64) * stride, ids, vocabulary, _floor_of(floors, row))
    high = tl.max(value, axis=1)
    top = tl.max(high, axis=0)
    base = tl.where((top > float("-inf")) & (top < float("inf")), top, 0.0)
    mass = tl.sum(tl.exp((value - base) * sharp), axis=1)
    at = row.to(tl.int64) * groups + group
    tl.store(highest + at, high, mask=group < groups)
    tl.store(masses + at, mass, mask=group < groups)
    tl.store(tops + row * tl.num_programs(0) + chunk, top)


@triton.jit
def _plan(logits_ptr, floors, streams, steps, highest, masses, tops, listed, counts, facts, usable,
          stride, vocabulary, groups, chunks, per_step, sharp, spare,
          GROUP: tl.constexpr, CHUNK: tl.constexpr, GROUPS: tl.constexpr, STEPS: tl.constexpr):  # fmt: skip
    """List the groups with a token that may be the row's; `facts` are largest logit, mass, least weight, sure score."""
    row = tl.program_id(0)
    group = tl.arange(0, GROUPS)
    there = group < groups
    at = row.to(tl.int64) * groups + group
    high = tl.load(highest + at, mask=there, other=float("-inf"))
    top = tl.load(tops + row * chunks + group // CHUNK, mask=there, other=float("-inf"))
    mass = tl.load(masses + at, mask=there, other=0.0)
    largest = tl.max(top, axis=0)
    sound = (largest > float("-inf")) & (largest < float("inf"))
    largest = tl.where(sound, largest, 0.0)
    mass *= tl.exp((top - largest) * sharp)
    total = tl.sum(mass, axis=0)
    good = sound & (total == total)
    peak = tl.exp((high - largest) * sharp)  # a group's largest weight

    best = tl.minimum(tl.argmax(high, axis=0), groups - 1)
    block = best * (GROUP // 8) + tl.arange(0, GROUP // 8)
    ids = block[:, None] * 8 + tl.arange(0, 8)[None]
    value = _read(logits_ptr + row.to(tl.int64) * stride, ids, vocabulary, _floor_of(floors, row))
    first = tl.load(steps + row) * per_step + 1  # NumPy counts up before it draws
    key = tl.load(streams + row).to(tl.uint64)
    a, b, c, d = philox((block + first).to(tl.uint64), key + (block * 0).to(tl.uint64))
    sure = tl.max(tl.where(value == largest, 1.0 / exponential(words_of(a, b, c, d)), 0.0))

    low = tl.log(sure * 1.16e-10)  # the least E is 1.164e-10
    upper = 0.0
    for _ in range(STEPS):  # no token below exp(low) can be the row's; upper is not known to be as good
        middle = 0.5 * (low + upper)
        least = tl.exp(middle)
        below = tl.where(peak < least, mass, tl.minimum(mass - peak, (GROUP - 1) * least))  # at most so much, a group
        fits = tl.sum(below, axis=0) <= spare * total
        low = tl.where(fits, middle, low)
        upper = tl.where(fits, upper, middle)
    least = tl.exp(low)

    kept = ((group < tl.where(good, groups, 0)) & (peak >= least)).to(tl.int32)
    tl.store(listed + row.to(tl.int64) * groups + tl.cumsum(kept, axis=0) - 1, group, mask=kept > 0)
    tl.store(counts + row, tl.sum(kept, axis=0))
    tl.store(usable + row, good)
    tl.store(facts + row * 4, largest)
    tl.store(facts + row * 4 + 1, total)
    tl.store(facts + row * 4 + 2, least)
    tl.store(facts + row * 4 + 3, sure)


@triton.jit
def _blocks_of(listed, highest, tile, count, GROUP: tl.constexpr, TILE: tl.constexpr):
    """A tile's Philox blocks, by number, and the largest logit of each one's group: minus infinity beyond the list."""
    lane = tl.arange(0, TILE * GROUP // 8)
    place = tile * TILE + lane // (GROUP // 8)
    group = tl.load(listed + place, mask=place < count, other=0)
    high = tl.load(highest + group, mask=place < count, other=float("-inf"))
    return group * (GROUP // 8) + lane % (GROUP // 8), high


@triton.jit
def _best(logits, listed, highest, count, begin, step, first, key, vocabulary, floor, largest, sharp, least, pivot,
          sure, GROUP: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    """Best score and its token, of equals the first, among listed tokens of weight at least `least` and above `pivot`.

    Scores below `sure` may be overlooked. As E > v, a score of w / E needs a word below 2**32 w / score, so that most
    tiles are done with when their words are drawn: without logits, exponential and logarithm.
    """
    best, token = -1.0, 1 << 30
    for tile in range(begin, tl.cdiv(count, TILE), step):
        block, high = _blocks_of(listed, highest, tile, count, GROUP, TILE)
        a, b, c, d = philox((block + first).to(tl.uint64), key + (block * 0).to(tl.uint64))
        peak = tl.exp((high - largest) * sharp)
        near = tl.where(peak > pivot, peak / tl.maximum(best, sure) * 4.3e9 + 1.0, 0.0)  # 2**32 and 0.1 % more
        may = any_below(a, b, c, d, tl.minimum(near, 4e9).to(tl.uint32)) | (near > 4e9)
        if tl.max(may.to(tl.int32), axis=0) > 0:
            ids = block[:, None] * 8 + tl.arange(0, 8)[None]
            weight = tl.exp((_read(logits, ids, vocabulary, floor) - largest) * sharp)
            runs = (weight >= least) & (weight > pivot) & (high > float("-inf"))[:, None]
            score = tl.where(runs, weight / exponential(words_of(a, b, c, d)), -1.0)
            here = tl.max(score)
            if here > best:
                best = here
                token = tl.min(tl.where(score == here, ids, 1 << 30))
    return best, token


@triton.jit
def _race(logits_ptr, floors, streams, steps, highest, listed, counts, facts, scores, theirs,
          stride, vocabulary, groups, per_step, sharp, GROUP: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    """The best of every PARTS-th tile of a row's listed groups; a score of -1 for none."""
    part, row = tl.program_id(0), tl.program_id(1)
    parts = tl.num_programs(0)
    first = tl.load(steps + row) * per_step + 1
    largest, least, sure = tl.load(facts + row * 4), tl.load(facts + row * 4 + 2), tl.load(facts + row * 4 + 3)
    mine = row.to(tl.int64) * groups
    best, token = _best(logits_ptr + row.to(tl.int64) * stride, listed + mine, highest + mine, tl.load(counts + row),
                        part, parts, first, tl.load(streams + row).to(tl.uint64), vocabulary, _floor_of(floors, row),
                        largest, sharp, least, -1.0, sure, GROUP, TILE)  # fmt: skip
    tl.store(scores + row * parts + part, best)
    tl.store(theirs + row * parts + part, token)


@triton.jit
def _settle(logits_ptr, floors, streams, steps, highest, listed, counts, facts, usable, scores, theirs, tokens,
            stride, vocabulary, groups, per_step, sharp, top_p,
            GROUP: tl.constexpr, TILE: tl.constexpr, PARTS: tl.constexpr):  # fmt: skip
    """The best of a row's parts, and the best of the likelier ones as long as it is outside the top-p set."""
    row = tl.program_id(0)
    part = row * PARTS + tl.arange(0, PARTS)
    score = tl.load(scores + part)
    token = tl.min(tl.where(score == tl.max(score, axis=0), tl.load(theirs + part), 1 << 30), axis=0)
    good = tl.load(usable + row) != 0
    token = tl.where(good, token, 0)
    outside = good & (top_p < 1.0)
    logits = logits_ptr + row.to(tl.int64) * stride
    mine = row.to(tl.int64) * groups
    count, floor = tl.load(counts + row), _floor_of(floors, row)
    largest, total = tl.load(facts + row * 4), tl.load(facts + row * 4 + 1)
    least, sure = tl.load(facts + row * 4 + 2), tl.load(facts + row * 4 + 3)
    while outside:
        chosen = tl.load(logits + token).to(tl.float32)
        pivot = tl.exp((chosen - largest) * sharp)
        likelier = 0.0
        for tile in range(0, tl.cdiv(count, TILE)):
            block, high = _blocks_of(listed + mine, highest + mine, tile, count, GROUP, TILE)
            ids = block[:, None] * 8 + tl.arange(0, 8)[None]
            ids = tl.where((high > chosen)[:, None], ids, vocabulary)  # nothing likelier in the others: not read
            weight = tl.exp((_read(logits, ids, vocabulary, floor) - largest) * sharp)
            likelier += tl.sum(tl.where(weight > pivot, weight, 0.0))
        outside = likelier >= top_p * total
        if outside:
            first = tl.load(steps + row) * per_step + 1
            _, token = _best(logits, listed + mine, highest + mine, count, 0, 1, first,
                             tl.load(streams + row).to(tl.uint64), vocabulary, floor, largest, sharp, least, pivot,
                             sure, GROUP, TILE)  # fmt: skip
    tl.store(tokens + row, token.to(tl.int64))


class Plan(NamedTuple):
    """What `_survey` and `_plan` found.

    Args:
        highest: [rows, groups] each group's largest logit.
        listed: [rows, groups] int32, numbers of the groups with a token that may be the row's, ascending; then junk.
        counts: [rows] int32, how many these are.
        facts: [rows, 4] largest logit, mass of all tokens, least weight and least score of the row's token.
        usable: [rows] bool.
    """

    highest: Tensor
    listed: Tensor
    counts: Tensor
    facts: Tensor
    usable: Tensor


def plan(logits: Tensor, rule: Sampling, floors: Tensor | None, streams: Tensor, steps: Tensor) -> Plan:
    """Which groups of tokens are worth their noise; arguments as of `sample`, `floors` [rows] the least top-k logit."""
    rows, vocabulary = logits.shape
    groups = triton.cdiv(vocabulary, GROUP)
    chunks, room = triton.cdiv(groups, CHUNK), max(128, triton.next_power_of_2(groups))
    made = Plan(
        logits.new_empty(rows, groups, dtype=torch.float32),
        logits.new_empty(rows, groups, dtype=torch.int32),
        logits.new_empty(rows, dtype=torch.int32),
        logits.new_empty(rows, 4, dtype=torch.float32),
        logits.new_empty(rows, dtype=torch.bool),
    )
    masses, tops = torch.empty_like(made.highest), made.highest.new_empty(rows, chunks)
    sharp = 1.0 / rule.temperature
    _survey[(chunks, rows)](
        logits, floors, made.highest, masses, tops, logits.stride(0), vocabulary, groups, sharp,
        GROUP=GROUP, CHUNK=CHUNK,
    )  # fmt: skip
    _plan[(rows,)](
        logits, floors, streams, steps, made.highest, masses, tops, made.listed, made.counts, made.facts, made.usable,
        logits.stride(0), vocabulary, groups, chunks, blocks(vocabulary), sharp, 1.0 - rule.top_p - MARGIN,
        GROUP=GROUP, CHUNK=CHUNK, GROUPS=room, STEPS=STEPS if rule.top_p < 1.0 else 0,
        num_warps=max(1, min(32, room // 512)), maxnreg=64,
    )  # fmt: skip
    return made


def sample(logits: Tensor, rule: Sampling, streams: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token a row, as `sampling.choose` does with the noise of `noise.words`. Waits for nothing.

    Args:
        logits: [rows, vocabulary], rows contiguous.
        streams: [rows] int64, the 64 bits of each row's stream.
        steps: [rows] int64, tokens written so far.

    Returns:
        tokens [rows] int64, and whether the row's logits were usable [rows] bool.
    """
    assert GROUP % WORDS == 0
    rows, vocabulary = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    floors = None
    if 0 < rule.top_k < vocabulary:
        floors = logits.topk(rule.top_k, dim=-1).values[:, -1].float().contiguous()
    found = plan(logits, rule, floors, streams, steps)
    scores, theirs = found.facts.new_empty(rows, PARTS), found.counts.new_empty(rows, PARTS)
    tokens = torch.empty(rows, dtype=torch.long, device=logits.device)
    shape = logits.stride(0), vocabulary, found.highest.shape[1], blocks(vocabulary), 1.0 / rule.temperature
    row = logits, floors, streams, steps, found.highest, found.listed, found.counts, found.facts
    _race[(PARTS, rows)](*row, scores, theirs, *shape, GROUP=GROUP, TILE=TILE)
    _settle[(rows,)](
        *row, found.usable, scores, theirs, tokens, *shape, float(rule.top_p), GROUP=GROUP, TILE=TILE, PARTS=PARTS,
        num_warps=8,
    )  # fmt: skip
    return tokens, found.usable
