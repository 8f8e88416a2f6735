"""A model folder to plan with: config, stand-in weights, and a tokenizer of single characters that adds a BOS token."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from raybt.config import Config
from raybt.load import validate

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)


def small_tokenizer(adds_bos: bool = True, chat_template: str | None = CHAT) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: at for at, letter in enumerate(["<s>", "</s>", *letters])}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    else:
        tokenizer.post_processor = processors.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=chat_template
    )


def model_folder(folder: Path, layers: int = 6, context: int = 512) -> Path:
    small_tokenizer().save_pretrained(folder)
    write_settings(folder, layers=layers, context=context)
    write_weights(folder / "model.safetensors")
    return folder


def write_settings(folder: Path, layers: int = 6, context: int = 512, **settings) -> Path:
    """A config.json; settings replace those given here, and None takes one out."""
    given = {
        "model_type": "qwen2",
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
        "vocab_size": 258,
        **settings,
    }
    (folder / "config.json").write_text(json.dumps({key: value for key, value in given.items() if value is not None}))
    return folder


def write_weights(path: Path, value: float = 0.0) -> None:
    """Stand-in weights: a whole file with nothing in it that a model needs."""
    save_file({"stand-in": np.full(4, value, np.float32)}, path)


def problem_file(path: Path, count: int = 6) -> Path:
    lines = [json.dumps({"id": f"p{n}", "question": f"{n} + 1?", "answer": f"so #### {n + 1}"}) for n in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def small_config(folder: Path, **sections) -> Config:
    """A config on a small model and six problems in `folder`; sections replace those given here."""
    if not (folder / "model").exists():
        model_folder(folder / "model")
        problem_file(folder / "problems.jsonl")
    values = {
        "name": "small",
        "model": {"name": str(folder / "model")},
        "problems": {"name": str(folder / "problems.jsonl")},
        "sampling": {"samples": 2, "max_new_tokens": 20},
        "interventions": {
            "subsets": {"late": ["mlp.4-5"], "first": ["attn.0"]},
            "grids": {"sweep": {"subsets": ["late", "first"], "scales": [0, 0.5]}},
        },
    }
    return validate({**values, **sections})
