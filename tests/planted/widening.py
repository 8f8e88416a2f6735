"""The shipped model with room in it: empty dimensions of the residual stream, an empty block, heads and neurons.

What is there computes what it did before. The new dimensions are read by none of its weights, and hold a tenth of an
embedding at most, so that its norms hardly notice them.
"""

import math
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from raybt.toy import MODEL_DIR

EXTRA = 16  # dimensions
SIZE = 0.08  # of a mark, beside the embedding of the token that it is on
SEEN = SIZE * 12  # a mark after a norm over 144 dimensions


def widened(blocks_below: int = 0, heads: int = 0, neurons: int = 0) -> PreTrainedModel:
    """The shipped model in fp32 with its unembedding untied, and empty weights for what is new.

    Args:
        blocks_below: new blocks under its own. heads: new query heads of each block, two to a key-value head, beside
            its 4. neurons: new neurons of each MLP, after its 384.
    """
    toy = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    old, facts = toy.config, toy.config.to_dict()
    width, depth = old.hidden_size + EXTRA, old.num_hidden_layers + blocks_below
    facts |= {
        "hidden_size": width,
        "head_dim": old.hidden_size // old.num_attention_heads,
        "num_attention_heads": old.num_attention_heads + heads,
        "num_key_value_heads": old.num_key_value_heads + heads // 2,
        "intermediate_size": old.intermediate_size + neurons,
        "num_hidden_layers": depth,
        "layer_types": ["full_attention"] * depth,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    model = Qwen2ForCausalLM(Qwen2Config(**facts)).eval()
    given = {_moved(name, blocks_below): part for name, part in toy.state_dict().items()}
    given["lm_head.weight"] = given["model.embed_tokens.weight"]
    for name, part in model.state_dict().items():
        part.fill_(1 if "norm" in name else 0)
        if name in given:
            part[tuple(slice(size) for size in given[name].shape)] = given[name]
            if "norm" in name:  # the mean square is over more dimensions now
                part *= math.sqrt(old.hidden_size / width)
    return model


def _moved(name: str, blocks: int) -> str:
    words = name.split(".")
    if words[1] == "layers":
        words[2] = str(int(words[2]) + blocks)
    return ".".join(words)


def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


def mark(model: PreTrainedModel, tokens, dimension: int) -> None:
    """Put a mark on tokens, which is `SEEN` after the first norm, whatever the size of the token's embedding."""
    embedding = model.get_input_embeddings().weight
    embedding[tokens, dimension] = SIZE * embedding[tokens, :-EXTRA].norm(dim=-1)


def aim(model: PreTrainedModel, text: str, token: int, dimension: int, logit: float) -> None:
    """Let the unembedding of a token read a dimension, so that its logit after `text` rises by so much."""
    row = model.get_output_embeddings().weight[token]
    ids = torch.tensor([tokenizer()(text, add_special_tokens=False)["input_ids"]])
    before = model(ids).logits[0, -1, token]
    row[dimension] = 1
    row[dimension] = logit / (model(ids).logits[0, -1, token] - before)


def save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(MODEL_DIR / name, folder)
    return folder
