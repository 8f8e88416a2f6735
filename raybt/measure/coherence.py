"""Two cheap signs of a model that has stopped making sense: it repeats itself, and its text compresses well."""

import zlib
from collections.abc import Sequence


def repetition(token_ids: Sequence[int], n: int = 4) -> float:
    """Share of token n-grams that repeat an earlier one of the same completion, 0 to 1; 0 below n tokens.

    1 - unique / all: seq-rep-n of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training", section 3.
    """
    grams = list(zip(*(token_ids[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def compression(text: str) -> float:
    """Bytes after zlib over bytes before, in UTF-8: low for repetition, above 1 for very short texts; 1 for no text."""
    data = text.encode()
    return len(zlib.compress(data)) / len(data) if data else 1.0
