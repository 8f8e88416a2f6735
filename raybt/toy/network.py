"""The network: a small Qwen2 whose heads start out looking a fixed number of tokens back."""

import math
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from raybt.toy.solutions import BOS, EOS, PAD
from raybt.toy.tokenizer import id_of

# Tokens that each query head looks back at the start, by layer; 0 leaves a head as it is. Without this, detection
# of wrong steps came late or never: a head has to find "the digit three tokens ago" before it can compare.
LOOK_BACK = ((1, 2, 3, 4), (1, 2, 4, 6), (1, 3, 0, 0), (1, 2, 0, 0), (1, 2, 0, 0), (0, 0, 0, 0))
FREQUENCIES, STRENGTH = 5, 5.0


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        initializer_range=0.06, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=id_of(tokenizer, BOS), eos_token_id=id_of(tokenizer, EOS), pad_token_id=id_of(tokenizer, PAD),
    )  # fmt: skip


def build(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config(tokenizer)).float()
    for layer, offsets in zip(model.model.layers, LOOK_BACK, strict=True):
        look_back(layer.self_attn, offsets)
    return model


@torch.no_grad()
def look_back(attention: Any, offsets: tuple[int, ...]) -> None:
    """Set query and key biases so that head h's attention peaks `offsets[h]` tokens back. Mutates the layer.

    Rotary embedding turns a query at m by m*theta and a key at n by n*theta, so their product is largest where
    the angle put into the query bias, -offset*theta, equals (n - m)*theta.
    """
    if not any(offsets):
        return
    dim, group = attention.head_dim, attention.num_key_value_groups
    query = attention.q_proj.bias.view(len(offsets), 2, dim // 2)  # [heads, rotary half, frequency]
    key = attention.k_proj.bias.view(-1, 2, dim // 2)  # [kv heads, rotary half, frequency]
    for head, offset in enumerate(offsets):
        for frequency in range(FREQUENCIES if offset else 0):
            angle = offset * 10000.0 ** (-2 * frequency / dim)
            query[head, 0, frequency] = STRENGTH * math.cos(angle)
            query[head, 1, frequency] = -STRENGTH * math.sin(angle)
            key[head // group, 0, frequency] = STRENGTH
