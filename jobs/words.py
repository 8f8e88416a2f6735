"""Which words a model's completions hold, and which of these can stand for a trigger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

RARE, COMMON = 0.1, 0.9  # a trigger must be there often enough to be measured, and not always
TOGETHER = 0.75  # completions without any trigger must be left, for controls
MOST = 3


@dataclass(frozen=True)
class Shares:
    """Completion -> the words that it holds."""

    texts: Mapping[str, frozenset[str]]

    def any(self, words: Iterable[str]) -> float:
        """Share of completions that hold at least one of these words."""
        return sum(not held.isdisjoint(words) for held in self.texts.values()) / len(self.texts)

    @property
    def each(self) -> dict[str, float]:
        return {word: self.any([word]) for word in sorted(frozenset().union(*self.texts.values()))}


def shares(root: Path) -> Shares:
    """Of a run whose triggers are all the words in question."""
    keys = set(pq.read_table(root / "plan.parquet")["key"].to_pylist())
    events = pq.read_table(root / "events").to_pylist()
    found: dict[str, set[str]] = {key: set() for key in keys}
    for event in events:
        if event["key"] in keys:
            found[event["key"]].add(event["phrase"])
    return Shares({key: frozenset(words) for key, words in found.items()})


def pick(found: Shares) -> list[str]:
    """At most three words, each neither rare nor common: the one nearest to half, and more while not all hold one."""
    able = [word for word, share in found.each.items() if RARE <= share <= COMMON]
    chosen: list[str] = []
    for word in sorted(able, key=lambda word: (abs(found.each[word] - 0.5), word)):
        if not chosen or (len(chosen) < MOST and found.any([*chosen, word]) <= TOGETHER):
            chosen.append(word)
    return chosen
