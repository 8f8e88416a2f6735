import pytest

from raybt.measure.sentences import sentence_starts
from raybt.measure.tokens import TokenText, decode
from tests.measure.small_tokenizers import byte_fallback, byte_level, bytes_as_ids


def starts(text: str) -> list[int]:
    """One token a byte, so that a token is the byte at which the word begins."""
    return sentence_starts(decode(byte_level(), bytes_as_ids(text.encode())))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n ", []),
        ("So it is.", [0]),
        ("A. B! C? D: E, F; G", [0, 3, 6, 9, 12]),
        ("3.5 is 7:2", [0]),  # no white space after the mark
        ("one\ntwo\n\n  three", [0, 4, 11]),
        ("One.\n\nTwo", [0, 6]),
        ("\n\nFirst", [2]),
        ("é. B", [0, 4]),
        ("end. ", [0]),
        ("(a) \u201cYes.\u201d No. Yes", [0, 19]),  # the mark inside the quotes has no white space behind it
    ],
)
def test_starts(text, expected):
    assert starts(text) == expected


def test_a_token_that_holds_the_space_before_the_word_begins_the_sentence():
    """`_W` is one token in SentencePiece: it starts with the space, and the word starts in it."""
    tokenizer = byte_fallback()
    ids = [tokenizer.convert_tokens_to_ids(piece) for piece in ("W", "a", ".", "▁W", "a", ".", "▁", "W")]
    text = decode(tokenizer, ids)
    assert text.text == "Wa. Wa. W"
    assert sentence_starts(text) == [0, 3, 7]


def test_a_token_that_holds_the_mark_too():
    """A token `x. y` would hold two starts; it stands once."""
    text = TokenText("x. y z", b"x. y z", (0, 4, 6))
    assert sentence_starts(text) == [0]
