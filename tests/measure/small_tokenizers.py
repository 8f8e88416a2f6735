"""Small tokenizers of each kind that decoding must know, built here and not downloaded."""

from functools import lru_cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = ["Wait, hold on. Actually I was wrong: naïve café 日本 🙂 “quotes” it's 7,500 Final: 42"] * 3


@lru_cache
def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE as in GPT-2, Qwen and Llama 3: any byte sequence has ids."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    core.decoder = decoders.ByteLevel()  # pyright: ignore
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False),
    )
    core.add_tokens([AddedToken("</think>"), AddedToken("é日x"), AddedToken("a b")])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")


@lru_cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """SentencePiece-like with byte fallback, as in Llama 2."""
    words = ["▁", "W", "a", "i", "t", "▁W", "▁Wait", "it", "▁▁", "é", "日", "."]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(steps)  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


@lru_cache
def word_piece() -> PreTrainedTokenizerFast:
    """A decoder without bytes for each token: goes through `DecodeStream`."""
    words = ["[UNK]", "[SEP]", "Wait", "##ing", ".", "hold", "on", "日"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.decoder = decoders.WordPiece(cleanup=False)  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="[SEP]")


def bytes_as_ids(data: bytes) -> list[int]:
    """One token a byte: the finest split, which no encoder would choose. Assumes bytes that occur in UTF-8."""
    return [_ids_by_byte()[byte] for byte in data]


@lru_cache
def _ids_by_byte() -> dict[int, int]:
    """Read off the pre-tokenizer, which spells each byte of a character as one letter."""
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    leads = [*range(0x800), *range(0x800, 0xD800, 0x400), *range(0xE000, 0x110000, 0x400)]
    vocabulary = byte_level().get_vocab()
    spelt = [(char.encode(), spell(char)[0][0]) for char in map(chr, leads)]
    return {byte: vocabulary[letter] for data, letters in spelt for byte, letter in zip(data, letters, strict=True)}
