"""Where sentences start in a completion: the places most like an onset that are none."""

import re

from raybt.measure.tokens import TokenText

_START = re.compile(r"(?:\A\s*|[.!?:]\s+|\n\s*)(?=\S)")


def sentence_starts(text: TokenText) -> list[int]:
    """Tokens that begin a sentence: the first word, and each word after `.`, `!`, `?` or `:` and white space, or after
    a new line.

    As for an onset, the token is the one that holds the word's first character, whether or not it also holds the
    white space before it.
    """
    return sorted({text.token_of(match.end()) for match in _START.finditer(text.text)})
