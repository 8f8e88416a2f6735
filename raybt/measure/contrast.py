"""Which positions of which completions vectors are made from: onsets, their matched controls, and samples."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Matched:
    """Positions at onsets and at their controls, and the onsets that found no control.

    Args:
        onsets, controls: (key, token index into the completion) pairs, pair by pair.
    """

    onsets: list[tuple[str, int]]
    controls: list[tuple[str, int]]
    unmatched: int


def matched_positions(grades: pd.DataFrame, window: tuple[int, int], seed: int) -> Matched:
    """Positions of `window` around each onset, and the same token indices in completions without any onset.

    A control stands as far into its completion as its onset does, so that position is no part of the difference.
    Each onset draws one control among the completions that are long enough.

    Args:
        grades: columns key, n_tokens, onset_strict, onset_relaxed, onset_token.
        window: offsets from the onset's first token, last excluded; the token read there, -1 being the one before.
    """
    grades = grades.sort_values("key")
    with_onset = grades[grades["onset_strict"] & grades["onset_token"].notna()]
    plain = grades[~grades["onset_strict"] & ~grades["onset_relaxed"]]
    dice = np.random.default_rng(seed)
    found = Matched([], [], 0)
    unmatched = 0
    for key, onset, length in zip(with_onset["key"], with_onset["onset_token"], with_onset["n_tokens"], strict=True):
        spots = [int(onset) + offset for offset in range(*window) if -1 <= int(onset) + offset < length - 1]
        enough = plain.loc[plain["n_tokens"] - 1 > max(spots, default=0), "key"].tolist()
        if not spots or not enough:
            unmatched += 1
            continue
        control = str(enough[dice.integers(len(enough))])
        found.onsets.extend((str(key), spot) for spot in spots)
        found.controls.extend((control, spot) for spot in spots)
    return Matched(found.onsets, found.controls, unmatched)


def sampled_positions(grades: pd.DataFrame, rows: int, seed: int) -> list[tuple[str, int]]:
    """Some (key, token index) pairs of all that were written and read again, in order; all where there are fewer."""
    everything = written_positions(grades)
    chosen = np.random.default_rng(seed).permutation(len(everything))[:rows]
    return [everything[index] for index in sorted(chosen)]


def written_positions(grades: pd.DataFrame) -> list[tuple[str, int]]:
    """Every (key, token index) of a written token that was read again: all but each completion's last."""
    grades = grades.sort_values("key")
    return [(str(k), i) for k, n in zip(grades["key"], grades["n_tokens"], strict=True) for i in range(int(n) - 1)]
