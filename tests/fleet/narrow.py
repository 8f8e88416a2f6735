"""A random Qwen2 of 28 narrow layers that backtracks now and then, because one of its MLPs says so."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from raybt.toy import MODEL_DIR

WIDTH, CONSTANT, ONSET = 48, -2, -1  # of the stream, and two of its dimensions
CAUSE = 20  # the layer whose MLP writes the onset; one of the study's late MLPs
LOGITS = dict.fromkeys(["\u0120", ".\u010a", ",", "*", "=", "-"], 6.0) | dict.fromkeys("!\"#$%&'()+/:", 4.3)
"""Of the tokens that it writes for the most part, as the tokenizer spells them. Next to these a word is whole."""
END, TRIGGER = 4.0, 5.35  # logits of the end and, where its cause is there, of `Wait`: a few steps in a hundred


@torch.no_grad()
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
    _hold_constant(model)
    token = AutoTokenizer.from_pretrained(MODEL_DIR).convert_tokens_to_ids
    constant, onset = model.model(torch.arange(5, 55)[None]).last_hidden_state[0, :, [CONSTANT, ONSET]].mean(0)
    head = model.lm_head.weight
    head[:, [CONSTANT, ONSET]] = 0
    for name, logit in [*LOGITS.items(), ("<|eos|>", END)]:
        head[token(name), CONSTANT] = logit / constant
    head[token("Wait"), ONSET] = TRIGGER / onset
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODEL_DIR / name, folder)
    return folder


def _hold_constant(model) -> None:
    """One dimension is the same at every token; the cause copies it to another, and does nothing else.

    silu(z) - silu(-z) is z, so that two neurons multiply two numbers: here the constant after the norm with itself.
    """
    model.model.embed_tokens.weight[:, CONSTANT], model.model.embed_tokens.weight[:, ONSET] = 5, 0
    for layer in model.model.layers:
        for written in (layer.self_attn.o_proj, layer.mlp.down_proj):
            written.weight[[CONSTANT, ONSET]] = 0
    mlp = model.model.layers[CAUSE].mlp
    for part in mlp.parameters():
        part.zero_()
    for neuron, sign in ((0, 1), (1, -1)):
        mlp.gate_proj.weight[neuron, CONSTANT] = mlp.up_proj.weight[neuron, CONSTANT] = sign
        mlp.down_proj.weight[ONSET, neuron] = 1
