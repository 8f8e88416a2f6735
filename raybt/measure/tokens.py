"""The text of a completion and the token behind each character, from the generated ids and never re-encoded.

Re-encoding a decoded text need not give the ids back (a model may write " hel" + "lo" where the tokenizer writes "
hello"), so a position found by re-encoding can point at a token that was never generated. Here each token's bytes are
laid end to end instead.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

from tokenizers.decoders import DecodeStream


@dataclass(frozen=True)
class TokenText:
    """The decoded text of one completion, and where its tokens lie in it.

    `data` holds the tokens' bytes end to end, `starts` the byte at which each token begins, and the end of all as the
    last entry.
    """

    text: str
    data: bytes
    starts: tuple[int, ...]  # [tokens + 1], never falling; a skipped special token has no bytes

    def token_of(self, char: int) -> int:
        """Index of the token that holds the first byte of character `char`.

        Raises:
            IndexError: there is no such character.
        """
        if not 0 <= char < len(self.text):
            raise IndexError(f"character {char} of a text of {len(self.text)}")
        return bisect_right(self.starts, self._char_starts[char]) - 1

    def char_span(self, token: int) -> tuple[int, int]:
        """Characters `(start, end)` of which token `token` holds at least one byte; empty for a skipped special token.

        Two neighbours share a character whose bytes are split between them.
        """
        first, end = self.starts[token], self.starts[token + 1]
        if first == end:
            at = bisect_left(self._char_starts, first)
            return at, at
        return bisect_right(self._char_starts, first) - 1, bisect_left(self._char_starts, end)

    @cached_property
    def _char_starts(self) -> Sequence[int]:
        """Byte at which each character begins, [characters + 1]."""
        if self.text.isascii():
            return range(len(self.text) + 1)
        return _char_starts(self.data)


def decode(tokenizer, token_ids: Sequence[int]) -> TokenText:
    """Decode one completion to the text of `tokenizer.decode(..., skip_special_tokens=True)` without space clean-up.

    Special tokens (eos, bos, pad) add no text; other added tokens, such as `</think>`, do. Bytes that are not UTF-8
    become U+FFFD.

    Args:
        tokenizer: a transformers `PreTrainedTokenizerFast`; assumed not to change once used here (its byte table is
        kept). token_ids: generated ids, [tokens]; ids beyond the vocabulary add no text.
    """
    ids = list(token_ids)
    table = _byte_table(tokenizer)
    if table is None:
        return _decode_by_stream(tokenizer, ids)
    pieces = [table.get(token_id, b"") for token_id in ids]
    data = b"".join(pieces)
    starts = accumulate(map(len, pieces), initial=0)
    if _strips_first_space(tokenizer) and data.startswith(b" "):
        data, starts = data[1:], (max(0, start - 1) for start in starts)
    return TokenText(data.decode("utf-8", "replace"), data, tuple(starts))


def _decode_by_stream(tokenizer, ids: list[int]) -> TokenText:
    """For decoders without bytes for each token: text that needs several tokens is given to the first of them."""
    stream, chunks, starts, pending, size = DecodeStream(skip_special_tokens=True), [], [], 0, 0
    for token_id in ids:
        chunk = (stream.step(tokenizer.backend_tokenizer, token_id) or "").encode()
        pending += 1
        if chunk:
            starts += [size] + [size + len(chunk)] * (pending - 1)
            chunks.append(chunk)
            size, pending = size + len(chunk), 0
    data = b"".join(chunks)
    return TokenText(data.decode(), data, tuple(starts + [size] * (pending + 1)))


def _char_starts(data: bytes) -> list[int]:
    """Byte at which each character of `data.decode("utf-8", "replace")` begins, and the end: [characters + 1]."""
    starts, at = [], 0
    while at < len(data):
        bad_start, bad_end = _first_bad_run(data, at)
        starts += [byte for byte in range(at, bad_start) if data[byte] & 0xC0 != 0x80]
        if bad_end > bad_start:
            starts.append(bad_start)  # one U+FFFD for the whole run, as `decode` writes it
        at = bad_end
    return [*starts, len(data)]


def _first_bad_run(data: bytes, at: int) -> tuple[int, int]:
    """(start, end) of the first bytes from `at` on that are not UTF-8, or the end twice."""
    try:
        data[at:].decode()
    except UnicodeDecodeError as error:
        return at + error.start, at + error.end
    return len(data), len(data)


@lru_cache(maxsize=8)
def _byte_table(tokenizer) -> dict[int, bytes] | None:
    """Token id -> bytes for byte-level and byte-fallback decoders, special tokens left out; None for other decoders."""
    to_bytes = {"bytes": _bytes_of_byte_level, "pieces": _bytes_of_piece}.get(_kind(tokenizer))
    if to_bytes is None:
        return None
    special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
    return {token_id: to_bytes(token) for token, token_id in vocabulary.items() if token_id not in special}


@lru_cache(maxsize=8)
def _strips_first_space(tokenizer) -> bool:
    return any(step["type"] == "Strip" for step in _decoder_steps(tokenizer))


def _kind(tokenizer) -> str:
    """`bytes` (GPT-2, Qwen, Llama 3), `pieces` (SentencePiece with byte fallback: Llama 2, Gemma) or `other`."""
    steps = _decoder_steps(tokenizer)
    if [step["type"] for step in steps] == ["ByteLevel"]:
        return "bytes"
    return "pieces" if steps and all(step in _PIECE_STEPS for step in steps) else "other"


def _decoder_steps(tokenizer) -> list[dict]:
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is None:
        return []
    state = json.loads(decoder.__getstate__())
    return state["decoders"] if state["type"] == "Sequence" else [state]


_PIECE_STEPS = (
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
)


def _byte_alphabet() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's `bytes_to_unicode`)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _bytes_of_byte_level(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[letter] for letter in token)
    except KeyError:  # an added token written in plain text
        return token.encode()


def _bytes_of_piece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()
