"""Where a completion backtracks: whole-word matches of trigger phrases, and which of them is the onset."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from raybt.config import Triggers
from raybt.measure.tokens import TokenText

NO_TOKEN = -1  # the text came without its tokens
STRICT, RELAXED, ALTERNATIVE = "strict", "relaxed", "alternative"  # tiers


@dataclass(frozen=True)
class Onset:
    """One match of a trigger phrase, or of a word that is watched beside them."""

    tier: str  # strict, relaxed or alternative
    phrase: str  # as the config lists it
    char: int
    end: int
    token: int  # holds the first byte of the phrase; -1 for a plain string
    is_onset: bool


def find_onsets(text: TokenText | str, triggers: Triggers) -> list[Onset]:
    """All matches of the trigger phrases in order of position, at most one a tier and character, and the onset marked.

    Phrases match as whole words ("Waiting" is no "Wait"), white space in them matches any run of it, and ' equals ’.
    The onset is chosen among the strict matches, among the relaxed ones only where no strict phrase occurs:

    - `earliest`: the earliest match; where several phrases start at one character, the longest.
    - `listed`: the earliest occurrence of the first phrase in the list that occurs at all (the rule of Mishra 2025).

    A completion counts as strict if it has a strict match, as relaxed if it has a strict or a relaxed one. The tier
    `alternative` holds words that are only watched: none is ever the onset.
    """
    plain = text if isinstance(text, str) else text.text
    matches = [
        (tier, *match) for tier, phrases in tiers(triggers).items() for match in _matches(plain, phrases, triggers)
    ]
    chosen = _choose(matches, triggers)
    return [
        Onset(tier, phrase, char, end, _token(text, char), (tier, char) == chosen)
        for tier, phrase, char, end in sorted(matches, key=lambda match: match[2])
    ]


def tiers(triggers: Triggers) -> dict[str, tuple[str, ...]]:
    """Tier -> its phrases, as the config lists them."""
    return {STRICT: triggers.strict, RELAXED: triggers.relaxed, ALTERNATIVE: triggers.alternatives}


def _matches(text: str, phrases: tuple[str, ...], triggers: Triggers) -> Iterator[tuple[str, int, int]]:
    """(phrase, first character, end) of each match; matches that overlap are all found."""
    if not phrases:
        return
    if triggers.priority == "earliest":
        phrases = tuple(sorted(phrases, key=len, reverse=True))
    for match in _pattern(phrases, triggers.case_sensitive).finditer(text):
        group = match.lastindex or 0
        yield phrases[group - 1], match.start(group), match.end(group)


def _choose(matches: list[tuple[str, str, int, int]], triggers: Triggers) -> tuple[str, int] | None:
    for tier, phrases in ((STRICT, triggers.strict), (RELAXED, triggers.relaxed)):
        found = [(char, phrase) for name, phrase, char, _ in matches if name == tier]
        if found:
            rank = phrases.index if triggers.priority == "listed" else lambda phrase: 0
            return tier, min((rank(phrase), char) for char, phrase in found)[1]
    return None


def _token(text: TokenText | str, char: int) -> int:
    return NO_TOKEN if isinstance(text, str) else text.token_of(char)


@lru_cache(maxsize=64)
def _pattern(phrases: tuple[str, ...], case_sensitive: bool) -> re.Pattern[str]:
    """One group a phrase, tried in the given order, inside a look-ahead so that one match does not hide the next."""
    groups = "|".join(rf"({_phrase_pattern(phrase)})(?!\w)" for phrase in phrases)
    return re.compile(rf"(?<!\w)(?={groups})", 0 if case_sensitive else re.IGNORECASE)


def _phrase_pattern(phrase: str) -> str:
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.sub(r"['’]", "['’]", words)
