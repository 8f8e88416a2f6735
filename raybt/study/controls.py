"""Random subsets matched to a target.

A control has as many sites as its target, of the same kinds and from the same depths: each site stands for a random
one of its kind in its band of layers. Bands are thirds (early, middle, late) in models of 9 to 36 layers; deeper
models have more bands, none wider than 12 layers, and shallower ones fewer, since a band of less than 3 layers leaves
next to nothing to draw from. The study's target sites are late and its one random control early, so that nothing told
apart what the sites do from how deep they lie. A control may share sites with its target (how many is reported) but
is never the target itself. Layer 0, whose removal breaks most models, is drawn like any other.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from math import ceil, comb, prod

from raybt.plan.sites import order
from raybt.study.split import digest

Subset = tuple[str, ...]
WIDEST_BAND, NARROWEST_BAND = 12, 3  # layers


@dataclass(frozen=True)
class Controls:
    """Random subsets matched to a target.

    Args:
        subsets: each sorted, no two alike, none the target. [controls]
        overlaps: share of a control's sites that are the target's too. [controls]
        exist: how many there are to draw from; where fewer than were asked for, `subsets` are all of them.
    """

    subsets: tuple[Subset, ...]
    overlaps: tuple[float, ...]
    exist: int


def matched_subsets(target: Sequence[str], n_layers: int, n_heads: int, *, seed: int, count: int = 20) -> Controls:
    """Controls drawn without replacement, each subset that exists as likely as any other.

    Args:
        target: sites, each of kind attn, mlp, resid or head.
        n_layers, n_heads: blocks of the model, and attention heads in each.
        count: how many are wanted; all that exist where there are fewer.
    """
    sites = tuple(sorted(set(target), key=order))
    groups = _groups(sites, n_layers, n_heads)
    exist = prod(comb(len(pool), taken) for pool, taken in groups) - 1
    subsets = tuple(_all_but(sites, groups) if exist <= count else _drawn(sites, groups, seed, count))
    return Controls(subsets, tuple(len({*sites} & {*subset}) / len(sites) for subset in subsets), exist)


def band(layer: int, n_layers: int) -> int:
    """The depth band of a layer, from 0; bands of one model differ by at most one layer in width."""
    bands = max(ceil(n_layers / WIDEST_BAND), min(3, n_layers // NARROWEST_BAND), 1)
    return layer * bands // n_layers


def _groups(sites: Subset, n_layers: int, n_heads: int) -> list[tuple[Subset, int]]:
    """(all sites of one kind and band, how many of them the target takes), sorted."""
    cells = sorted({_cell(site, n_layers) for site in sites})
    taken = {cell: sum(_cell(site, n_layers) == cell for site in sites) for cell in cells}
    return [(_pool(*cell, n_layers, n_heads), taken[cell]) for cell in cells]


def _cell(site: str, n_layers: int) -> tuple[str, int]:
    kind, layer = site.split(".")[:2]
    return kind, band(int(layer), n_layers)


def _pool(kind: str, depth: int, n_layers: int, n_heads: int) -> Subset:
    layers = [layer for layer in range(n_layers) if band(layer, n_layers) == depth]
    if kind != "head":
        return tuple(f"{kind}.{layer}" for layer in layers)
    return tuple(f"head.{layer}.{head}" for layer in layers for head in range(n_heads))


def _all_but(target: Subset, groups: list[tuple[Subset, int]]) -> Iterator[Subset]:
    for parts in product(*(combinations(pool, taken) for pool, taken in groups)):
        subset = tuple(sorted(chain.from_iterable(parts), key=order))
        if subset != target:
            yield subset


def _drawn(target: Subset, groups: list[tuple[Subset, int]], seed: int, count: int) -> list[Subset]:
    """Independent draws, repeats and the target rejected, which leaves all others equally likely.

    Assumes that more than `count` exist.
    """
    draw = random.Random(digest(seed, "controls", *target))
    found: dict[Subset, None] = {}  # a set that keeps its order
    while len(found) < count:
        parts = [draw.sample(pool, taken) for pool, taken in groups]
        subset = tuple(sorted(chain.from_iterable(parts), key=order))
        if subset != target:
            found[subset] = None
    return list(found)
