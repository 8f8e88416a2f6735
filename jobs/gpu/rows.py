"""What the GPU jobs decode: a random model whose next tokens are a language model's to guess, and rows to write."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.bank import Bank
from raybt.engine.request import Request, Sampling, Term
from raybt.engine.wiring import with_fusion

NATS = 1.0  # next-token entropy of the random model
RULE = Sampling(0.7, top_p=0.95)
"""The study's."""
GOLDEN = 0x9E3779B97F4A7C15  # spreads rows' streams over 64 bits
POSITIONS = ("decode", "all", "after_trigger")


def random_model(device: str, quick: bool) -> Anatomy:
    """DeepSeek-R1-Distill-Qwen-1.5B's shape in bf16, made on the device; quick: a tiny one."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": False,
    }  # fmt: skip
    if quick:
        shape |= {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        shape |= {"num_attention_heads": 4}
    torch.manual_seed(0)
    stock = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model: Any = Qwen2ForCausalLM(Qwen2Config(**shape))
    finally:
        torch.set_default_dtype(stock)
    model.config.eos_token_id = model.generation_config.eos_token_id = None  # rows end at their drawn lengths
    model.eval().requires_grad_(False)
    sharpen(model)
    return with_fusion(dissect(model))


@torch.inference_mode()
def sharpen(model: Any, nats: float = NATS) -> float:
    """Scale a random model's head until its next tokens have this entropy; gives the entropy that came of it.

    Random logits are flat, and flat logits spare top-p its second pass over them.
    """
    ids = torch.randint(5, model.config.vocab_size, (8, 32), device=model.device)
    states = model.model(input_ids=ids).last_hidden_state.flatten(0, 1)[::2]  # [128, hidden]
    logits = model.lm_head(states).float()
    low, high = 1e-2, 1e4
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if entropy(logits * middle) > nats else (low, middle)
    model.lm_head.weight.data.mul_(low)
    return entropy(model.lm_head(states).float())


def entropy(logits: Tensor) -> float:
    """Mean over rows, in nats."""
    return float(torch.special.entr(logits.softmax(-1)).sum(-1).mean())


def lengths(count: int, mean: float, cap: int, seed: int = 0) -> list[int]:
    """Geometric with this mean, then cut at the cap, as rows are that end by chance or by their limit."""
    dice = random.Random(seed)
    return [min(cap, 1 + int(dice.expovariate(1 / mean))) for _ in range(count)]


def prompts(count: int, vocabulary: int, shortest: int, longest: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Random texts of lengths spread evenly from the shortest to the longest, in random order."""
    dice = random.Random(seed)
    sizes = [shortest + (longest - shortest) * i // max(1, count - 1) for i in range(count)]
    dice.shuffle(sizes)
    return [tuple(dice.randrange(5, vocabulary) for _ in range(size)) for size in sizes]


def shipped_prompts(count: int) -> list[tuple[int, ...]]:
    """The shipped problems as the shipped model reads them."""
    import json

    from transformers import AutoTokenizer

    from raybt.toy import MODEL_DIR, PROBLEMS_FILE

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    texts = [json.loads(line)["question"] for line in PROBLEMS_FILE.read_text().splitlines()[:count]]
    return [
        tuple(tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True,
                                            tokenize=True, return_dict=False))
        for text in texts
    ]  # fmt: skip


def conditions(anatomy: Anatomy) -> list[tuple[Term, ...]]:
    """One of every kind: untouched, the operations with and without a vector, one head."""
    middle, last = anatomy.n_layers // 2, anatomy.n_layers - 1
    return [
        (),
        (Term(f"mlp.{middle}", "scale", 0.5),),
        (Term(f"attn.{middle}", "zero"),),
        (Term(f"mlp.{last}", "mean", 1.0, "direction"),),
        (Term(f"resid.{middle}", "add", 0.5, "direction"),),
        (Term(f"attn.{last}", "project_out", 1.0, "direction"),),
        (Term(f"resid.{middle - 1}", "clamp", 0.5, "direction"),),
        (Term(f"head.{middle}.1", "scale", 0.25),),
    ]


def bank(anatomy: Anatomy) -> Bank:
    """The vector that `conditions` name."""
    width = anatomy.model.config.hidden_size
    return Bank({"direction": torch.randn(width, generator=torch.Generator().manual_seed(3))}, anatomy.device)


def mixed(
    texts: Sequence[tuple[int, ...]], terms: Sequence[tuple[Term, ...]], limits: Sequence[int], plain: bool = False
) -> list[Request]:
    """A row for each limit, conditions and positions in turn. plain: at decode positions throughout."""
    found = []
    for i, limit in enumerate(limits):
        condition, turn = i % len(terms), i // len(terms)
        positions = "decode" if plain else POSITIONS[turn % len(POSITIONS)]
        window = (0, 8) if positions == "after_trigger" else None
        stream = (i * GOLDEN + 5) % 2**64
        text = texts[turn % len(texts)]
        found.append(Request(f"{condition}-{i}", text, limit, stream, terms[condition], positions, window=window))
    return found
