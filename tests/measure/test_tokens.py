import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.config import Triggers
from raybt.measure.onset import find_onsets
from raybt.measure.tokens import TokenText, decode
from tests.measure.small_tokenizers import byte_fallback, byte_level, bytes_as_ids, word_piece


def reference(tokenizer, ids) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def pieces(tokenizer, ids) -> list[bytes]:
    """Bytes of each token, each decoded by itself."""
    return [decode(tokenizer, [token_id]).data for token_id in ids]


def any_ids(tokenizer):
    return st.lists(st.integers(0, len(tokenizer) + 2), max_size=30)


@given(any_ids(byte_level()))
@settings(deadline=None, max_examples=400)
def test_byte_level_text_is_the_tokenizers_for_any_ids_even_invalid(ids):
    assert decode(byte_level(), ids).text == reference(byte_level(), ids)


@given(any_ids(byte_fallback()))
@settings(deadline=None, max_examples=300)
def test_byte_fallback_text_is_the_tokenizers_for_valid_text(ids):
    expected = reference(byte_fallback(), ids)
    if "\ufffd" not in expected:
        assert decode(byte_fallback(), ids).text == expected


@given(any_ids(word_piece()))
@settings(deadline=None, max_examples=100)
def test_other_decoders_go_through_the_stream(ids):
    decoded = decode(word_piece(), ids)
    assert decoded.text == reference(word_piece(), ids)
    assert len(decoded.starts) == len(ids) + 1


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback(), word_piece()])
def test_nothing_and_only_special_tokens_give_no_text(tokenizer):
    eos = tokenizer.eos_token_id
    for ids in ([], [eos], [eos, eos]):
        decoded = decode(tokenizer, ids)
        assert decoded.text == "" and len(decoded.starts) == len(ids) + 1


@given(any_ids(byte_level()))
@settings(deadline=None, max_examples=300)
def test_each_character_lies_in_the_token_that_holds_its_first_byte(ids):
    """The slow and obvious way: a character begins with the first byte that adds it to the text decoded so far."""
    decoded = decode(byte_level(), ids)
    owners = [token for token, piece in enumerate(pieces(byte_level(), ids)) for _ in piece]
    begun = [len(decoded.data[: n + 1].decode("utf-8", "replace")) for n in range(len(decoded.data))]
    for char in range(len(decoded.text)):
        token = decoded.token_of(char)
        assert token == owners[begun.index(char + 1)]
        start, end = decoded.char_span(token)
        assert start <= char < end


@given(st.text(min_size=1, max_size=20), st.data())
@settings(deadline=None, max_examples=200)
def test_characters_split_over_tokens(text, data):
    """One token a byte: the token of a character is the number of bytes before it."""
    text = text.encode("utf-8", "ignore").decode()
    decoded = decode(byte_level(), bytes_as_ids(text.encode()))
    assert decoded.text == text
    for char in range(len(text)):
        assert decoded.token_of(char) == len(text[:char].encode())


@given(st.lists(st.binary(max_size=6), max_size=6))
@settings(deadline=None, max_examples=300)
def test_bytes_that_are_no_utf8_shift_nothing(runs):
    """A W is looked up after any rubbish; the rubbish is U+FFFD, one for each bad run."""
    usable = [bytes(b for b in run if b in set(range(0xF5)) - {0xC0, 0xC1}) for run in runs]
    data = b"W".join([b"", *usable, b""])
    decoded = decode(byte_level(), bytes_as_ids(data))
    assert decoded.text == data.decode("utf-8", "replace")
    found = [decoded.token_of(match.start()) for match in re.finditer("W", decoded.text)]
    assert found == [i for i, byte in enumerate(data) if byte == ord("W")]


def all_splits(text: str, vocabulary: dict[str, int]):
    """Every way to write `text` as tokens of the vocabulary."""
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if text[:end] in vocabulary:
            yield from ([vocabulary[text[:end]], *rest] for rest in all_splits(text[end:], vocabulary))


def test_phrases_split_over_tokens_in_every_way():
    """The onset is the token with the phrase's first letter, also in ids that encoding the text would never give."""
    tokenizer, seen, text = byte_level(), 0, "Final: quotes. Wait, hold"
    vocabulary = {reference(tokenizer, [i]): i for i in range(len(tokenizer))}
    length = {i: len(word) for word, i in vocabulary.items()}
    for ids in all_splits(text, vocabulary):
        (onset,) = find_onsets(decode(tokenizer, ids), Triggers())
        lengths = [length[i] for i in ids]
        assert sum(lengths[: onset.token]) <= text.index("W") < sum(lengths[: onset.token + 1])
        seen += ids != tokenizer.encode(text)
    assert seen > 10


@given(st.lists(st.integers(0, len(byte_level()) - 1), max_size=12), st.lists(st.integers(0, 339), max_size=12))
@settings(deadline=None, max_examples=200)
def test_an_onset_among_random_ids(before, after):
    """Ids that re-encoding would not give back: " Wait" is put at a known place between random tokens."""
    tokenizer = byte_level()
    wait = bytes_as_ids(b" Wait ")
    ids = [*before, *wait, *after]
    onsets = find_onsets(decode(tokenizer, ids), Triggers(strict=("Wait",), relaxed=()))
    assert len(before) + 1 in [onset.token for onset in onsets]


def test_added_tokens_stay_and_special_ones_go():
    tokenizer = byte_level()
    think, eos = tokenizer.convert_tokens_to_ids("</think>"), tokenizer.eos_token_id
    ids = [*tokenizer.encode("so"), think, eos, *tokenizer.encode("Wait"), eos]  # pyright: ignore
    decoded = decode(tokenizer, ids)
    assert decoded.text == "so</think>Wait"
    at = decoded.token_of(decoded.text.index("Wait"))
    assert ids[at - 1] == eos and decoded.char_span(at - 1) == (10, 10)
    assert decoded.char_span(len(ids) - 1) == (14, 14)


def test_neighbours_share_a_split_character():
    decoded = decode(byte_level(), bytes_as_ids("a🙂b".encode()))
    assert [decoded.char_span(i) for i in range(6)] == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)]
    assert [decoded.token_of(char) for char in range(3)] == [0, 1, 5]


def test_byte_fallback_drops_the_first_space_and_keeps_the_places():
    tokenizer = byte_fallback()
    ids = tokenizer.convert_tokens_to_ids(["<s>", "▁Wait", "<0xE6>", "<0x97>", "<0xA5>", "▁W", "</s>"])
    decoded = decode(tokenizer, ids)
    assert decoded.text == "Wait日 W"
    assert [decoded.token_of(char) for char in (0, 4, 5, 6)] == [1, 2, 5, 5]


def test_a_character_outside_the_text_is_an_error():
    with pytest.raises(IndexError):
        decode(byte_level(), []).token_of(0)
    assert isinstance(decode(byte_level(), [0]), TokenText)
