"""A random Qwen2 of 28 narrow layers that backtracks now and then, because one of its MLPs says so."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from jobs.planting import CAUSE, plant
from raybt.toy import MODEL_DIR

__all__ = ["CAUSE", "narrow_qwen2"]

WIDTH = 48  # of the stream
LOGITS = dict.fromkeys(["\u0120", ".\u010a", ",", "*", "=", "-"], 6.0) | dict.fromkeys("!\"#$%&'()+/:", 4.3)
"""Of the tokens that it writes for the most part, as the tokenizer spells them. Next to these a word is whole."""
END, TRIGGER = 4.0, 5.35  # logits of the end and, where its cause is there, of `Wait`: a few steps in a hundred


def narrow_qwen2(folder: Path) -> Path:
    """A model folder; weights are random but always the same."""
    shipped = json.loads((MODEL_DIR / "config.json").read_text())
    config = Qwen2Config(
        vocab_size=shipped["vocab_size"],
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=1024,
        initializer_range=0.1,
        tie_word_embeddings=False,
        **{name: shipped[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
    token = AutoTokenizer.from_pretrained(MODEL_DIR).convert_tokens_to_ids
    logits = {token(name): logit for name, logit in [*LOGITS.items(), ("<|eos|>", END)]}
    plant(model, logits, (token("Wait"), TRIGGER), range(5, 55))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODEL_DIR / name, folder)
    return folder
