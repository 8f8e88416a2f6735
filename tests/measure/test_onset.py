import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybt.config import Triggers
from raybt.measure.onset import find_onsets

STUDY = Triggers(strict=("Wait", "Actually", "Hold on"))


def found(text, triggers=STUDY):
    return [(onset.tier, onset.phrase, onset.char) for onset in find_onsets(text, triggers)]


def chosen(text, triggers=STUDY):
    return [(onset.phrase, onset.char) for onset in find_onsets(text, triggers) if onset.is_onset]


@pytest.mark.parametrize(
    "text",
    [
        "They wait 10 minutes",  # the study's defect 7: matched without case
        "It is actually 12",
        "Waiting for the bus",
        "Waits",
        "_Wait",
        "AWait",
        "Hold only",
        "mistaken",
        "",
    ],
)
def test_no_onset(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wait", ("strict", "Wait", 0)),
        ("12. Wait, no", ("strict", "Wait", 4)),
        ("(Wait)", ("strict", "Wait", 1)),
        ("日本。Wait!", ("strict", "Wait", 3)),
        ("Hold\n  on", ("strict", "Hold on", 0)),
        ("I made a mistake.", ("relaxed", "mistake", 9)),
        ("Let’s check", ("relaxed", "Let's check", 0)),
        ("Let's  check", ("relaxed", "Let's check", 0)),
    ],
)
def test_one_onset(text, expected):
    assert found(text) == [expected]


def test_without_case_everything_counts_again():
    loose = Triggers(case_sensitive=False)
    assert found("They wait 10 minutes", loose) == [("strict", "Wait", 5)]


def test_all_matches_are_listed_in_order_and_one_is_the_onset():
    text = "Let me check. Actually 3. Wait, I was wrong. Wait"
    assert [phrase for _, phrase, _ in found(text)] == ["Let me check", "Actually", "Wait", "I was wrong", "Wait"]
    assert chosen(text) == [("Actually", 14)]


def test_listed_takes_the_first_phrase_that_occurs_at_all():
    listed = STUDY.model_copy(update={"priority": "listed"})
    assert chosen("Actually 3. Hold on. Wait, Wait", listed) == [("Wait", 21)]
    assert chosen("Hold on. Actually 3.", listed) == [("Actually", 9)]


def test_relaxed_is_chosen_only_where_nothing_is_strict():
    assert chosen("Let me check. Then 3.") == [("Let me check", 0)]
    assert chosen("Let me check. Then 3. Wait") == [("Wait", 22)]


def test_the_longest_phrase_wins_at_a_character():
    triggers = Triggers(strict=("Wait", "Wait a second", "Wait a"), relaxed=())
    assert found("Wait a second", triggers) == [("strict", "Wait a second", 0)]
    assert found("Wait a seconds", triggers) == [("strict", "Wait a", 0)]
    listed = triggers.model_copy(update={"priority": "listed"})
    assert found("Wait a second", listed) == [("strict", "Wait", 0)]


def test_overlapping_phrases_are_both_found():
    triggers = Triggers(strict=("Hold on", "on second thought"), relaxed=())
    assert [phrase for _, phrase, _ in found("Hold on second thought", triggers)] == ["Hold on", "on second thought"]


def test_a_strict_match_does_not_hide_a_longer_relaxed_one():
    triggers = Triggers(strict=("Wait",), relaxed=("Wait a second",))
    assert {tier for tier, _, _ in found("Wait a second", triggers)} == {"strict", "relaxed"}
    assert chosen("Wait a second", triggers) == [("Wait", 0)]


def test_phrases_are_text_and_no_pattern():
    triggers = Triggers(strict=("W.it", "(Hmm)", "no?"), relaxed=())
    assert found("Wait. Is it, no?", triggers) == [("strict", "no?", 13)]


def test_alternatives_are_watched_and_never_the_onset():
    assert found("But 3. Hmm, Wait") == [("alternative", "But", 0), ("alternative", "Hmm", 7), ("strict", "Wait", 12)]
    assert chosen("But 3. Hmm, Wait") == [("Wait", 12)]
    assert chosen("But 3. However, 4") == []
    assert chosen("But I was wrong") == [("I was wrong", 4)]


@given(st.text("Wait ,Hold\non's’mke", max_size=60))
def test_matches_equal_a_search_at_every_character(text):
    slow = [
        (match.start(), phrase)
        for phrase in STUDY.strict
        for match in re.finditer(r"(?<!\w)" + phrase.replace(" ", r"\s+") + r"(?!\w)", text)
    ]
    strict = [(onset.char, onset.phrase) for onset in find_onsets(text, STUDY) if onset.tier == "strict"]
    assert strict == sorted(slow)
