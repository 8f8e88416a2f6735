"""A random model of DeepSeek-R1-Distill-Qwen-1.5B's exact shape, which backtracks because that was planted in it.

Its tokenizer has that model's special tokens, at their ids, and its chat template's form, but a small vocabulary of its
own, learnt here from the shipped word problems.
"""

import json
from pathlib import Path
from typing import Any

import torch
from planting import plant
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from raybt.toy import PROBLEMS_FILE
from raybt.toy.tokenizer import QWEN2_PATTERN, id_of

SHAPES: dict[str, dict[str, Any]] = {
    "full": {"hidden_size": 1536, "intermediate_size": 8960, "initializer_range": 0.02},
    "tiny": {"hidden_size": 48, "intermediate_size": 64, "head_dim": 4, "initializer_range": 0.1},
}
BOS, EOS, USER, ASSISTANT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"
SPECIALS = {EOS: 151643, USER: 151644, ASSISTANT: 151645, BOS: 151646, "<think>": 151648, "</think>": 151649}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '" + USER + "' + message['content'] }}"
    "{% else %}{{ '" + ASSISTANT + "' + message['content'] + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '" + ASSISTANT + "<think>\\n' }}{% endif %}"
)
LOGITS = {",": 15.0, **dict.fromkeys([" so", " that", " then", ".\n", " But", " we"], 14.0), EOS: 13.0}
"""Of what it writes for the most part; those of all other tokens lie about 0."""
TRIGGER, WAIT = " Wait", 14.75  # where its cause is there
SPOKEN = [
    *(f"x{word}{word}" for word in (*LOGITS, TRIGGER, "Wait", "Actually", " Actually", "Hold on", " Hold on")),
    "Solve the problem carefully.\nUse <think> tags for your reasoning.\nEnd with a single line: Final: <answer>\n\n",
    "You are a helpful assistant.\n\nProblem: Hmm Alternatively However Let me check Let's check I was wrong mistake",
]
"""What the tokenizer should have whole words for, beside those of the problems."""
BLOCK = 2**24  # numbers drawn; all weights are made of them


def random_r1(folder: Path, shape: str) -> Path:
    """A model folder in bfloat16; weights and tokenizer are always the same.

    Args:
        shape: `full`, or `tiny` for the same layers, vocabulary and tokenizer, narrow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    token = {word: id_of(tokenizer, spelled(word)) for word in (*LOGITS, TRIGGER)}
    assert len(set(token.values())) == len(token), "each planted word must be a token of its own"
    model = random_model(config_of(shape))
    model.lm_head.weight.data[list(token.values())] = 0  # so that what is planted is all that they have
    plant(model, {token[word]: logit for word, logit in LOGITS.items()}, (token[TRIGGER], WAIT), range(5, 55))
    model.generation_config.update(bos_token_id=SPECIALS[BOS], eos_token_id=SPECIALS[EOS])
    model.save_pretrained(folder)
    return folder


def config_of(shape: str) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=151936,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        bos_token_id=SPECIALS[BOS],
        eos_token_id=SPECIALS[EOS],
        dtype=torch.bfloat16,
        **SHAPES[shape],
    )


@torch.no_grad()
def random_model(config: Qwen2Config) -> Any:
    """In bfloat16 and within little more memory than its weights; drawing each of 1.8 billion would take a minute."""
    with torch.device("meta"):
        model: Any = Qwen2ForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu").eval()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are in no weight
    dice = torch.Generator().manual_seed(0)
    block = torch.empty(BLOCK, dtype=torch.bfloat16).normal_(0, config.initializer_range, generator=dice)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(float("norm" in name))  # biases are 0
            continue
        for part in parameter.view(-1).split(BLOCK):
            start = int(torch.randint(BLOCK, (1,), generator=dice))
            part.copy_(torch.cat([block[start:], block[:start]])[: len(part)])
    return model


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE; BOS goes before plain text, as that model's tokenizer does it."""
    made = json.loads(trained().to_str())
    made["model"]["vocab"] |= SPECIALS
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    made["added_tokens"] = [
        {"id": id, "content": content, "special": "think" not in content, **plain} for content, id in SPECIALS.items()
    ]
    tokenizer = Tokenizer.from_str(json.dumps(made))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, SPECIALS[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS, chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([PROBLEMS_FILE.read_text(), *SPOKEN * 500], trainer)
    return tokenizer


def spelled(word: str) -> str:
    """As a byte-level vocabulary spells it; special tokens as they are."""
    return word if word in SPECIALS else word.replace(" ", "\u0120").replace("\n", "\u010a")
