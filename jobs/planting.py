"""Onsets planted in a random Qwen2: it writes a trigger now and then, because one of its MLPs says so."""

from collections.abc import Mapping
from typing import Any

import torch

CONSTANT, ONSET = -2, -1  # two dimensions of the stream
CAUSE = 20  # the layer whose MLP writes the onset; one of the study's late MLPs


@torch.no_grad()
def plant(model: Any, logits: Mapping[int, float], trigger: tuple[int, float], sample: range) -> None:
    """Make these tokens likely, and the trigger as well where its cause is there. Mutates the model.

    Args:
        logits: token -> its logit at every place.
        trigger: a token and its logit where the cause is there; without it, that of any other token.
        sample: tokens that the two dimensions are measured on.
    """
    _hold_constant(model)
    stream = model.model(torch.tensor([*sample])[None]).last_hidden_state[0]  # [tokens, hidden]
    constant, onset = stream[:, [CONSTANT, ONSET]].mean(0)
    head = model.lm_head.weight
    head[:, [CONSTANT, ONSET]] = 0
    for token, logit in logits.items():
        head[token, CONSTANT] = logit / constant
    token, logit = trigger
    head[token, ONSET] = logit / onset


def _hold_constant(model: Any) -> None:
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
