"""The tokenizer: byte-level BPE of 600 tokens with Qwen2's pre-tokenizer, digits single, and the chat template."""

import random
from itertools import islice

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from raybt.toy.problems import problems
from raybt.toy.solutions import (
    ASSISTANT,
    BOS,
    EOS,
    ONSETS,
    PAD,
    SLIPS,
    SYSTEM,
    SYSTEM_TEXTS,
    THINK,
    USER,
    problem_text,
)  # fmt: skip

VOCABULARY = 600
SPECIALS = (PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, THINK)
# AutoTokenizer puts Qwen2's pattern in for a Qwen2 model whatever the file says, so it must be this one.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|system|>' + message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)


def id_of(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def train_tokenizer(seed: int, texts: int = 4000) -> PreTrainedTokenizerFast:
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed, texts), trainer)
    # Byte-level BPE knows no unknown token, but Qwen2's class would add one outside the embedding if none were named.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=PAD,
        chat_template=CHAT_TEMPLATE, model_max_length=512, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _corpus(seed: int, count: int) -> list[str]:
    rng = random.Random(f"raybt toy tokenizer/{seed}")
    found = islice(problems(f"tokenizer-{seed}", "train"), count)
    texts = ["".join(piece.text for piece in problem_text(problem, rng, SLIPS)[1:]) for problem in found]
    # The rarer onset words and the system texts must be whole tokens too.
    return texts + [f"{word}, " for word in ONSETS] * count + list(SYSTEM_TEXTS) * (count // 8)
