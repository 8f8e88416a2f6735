"""What each site does: `python -m raybt.toy.sites --json FILE [--problems 300] [--model DIR] [--seed N]`.

The output of one attention or MLP block is multiplied by 0 at every decode step (never in the prompt's prefill, so the
first token is untouched), and completions are measured as `evaluate` measures them. Plain forward hooks around
`generate`, batched: the obvious way, for the model card.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from raybt.toy import MODEL_DIR
from raybt.toy.evaluate import SAMPLING, load, prompt_ids, share, without_nan
from raybt.toy.labels import final_of, onset_word, stated_steps
from raybt.toy.problems import Problem, take

BATCH = 50


def site_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    layers = model.model.layers
    attention = {f"attn.{index}": layer.self_attn for index, layer in enumerate(layers)}
    return attention | {f"mlp.{index}": layer.mlp for index, layer in enumerate(layers)}


@contextmanager
def decode_scale(module: nn.Module, scale: float) -> Iterator[None]:
    """Scale a block's output at decode steps, which with a cache are the passes over a single position."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output  # [rows, positions, hidden]
        scaled = hidden * scale if hidden.size(1) == 1 else hidden
        return (scaled, *output[1:]) if isinstance(output, tuple) else scaled

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def complete_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: list[str], seed: int
) -> list[str]:
    """Texts for many questions at once, left-padded. Draws depend on the batch, unlike `evaluate.complete`."""
    prompts = [prompt_ids(tokenizer, question) for question in questions]
    length = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    torch.manual_seed(seed)
    generate: Any = model.generate  # typed as a tensor by nn.Module
    out = generate(ids, attention_mask=mask, **SAMPLING)
    return tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, problems: list[Problem], seed: int
) -> dict[str, float]:
    texts: list[str] = []
    for start in range(0, len(problems), BATCH):
        questions = [problem.question for problem in problems[start : start + BATCH]]
        texts += complete_batch(model, tokenizer, questions, seed + start)
    steps = [stated_steps(text, problem.steps) for text, problem in zip(texts, problems, strict=True)]
    stated = [step for row in steps for step in row]
    return {
        "onset_rate": share([any(map(onset_word, text.split("\n"))) for text in texts]),
        "accuracy": share([final_of(text) == problem.gold for text, problem in zip(texts, problems, strict=True)]),
        "step_error": share([step.wrong for step in stated]),
        "p_onset_wrong": share([bool(s.next_onset) for s in stated if s.wrong and s.next_onset is not None]),
        "p_onset_right": share([bool(s.next_onset) for s in stated if not s.wrong and s.next_onset is not None]),
    }


def site_table(folder: Path | str, count: int, seed: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    model, tokenizer = load(folder)
    problems = take(count, seed, "evaluation")
    table = {"baseline": measure(model, tokenizer, problems, seed)}
    for name, module in site_modules(model).items():
        with decode_scale(module, 0.0):
            table[name] = measure(model, tokenizer, problems, seed)
        print(name, {key: round(value, 3) for key, value in table[name].items()}, flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Ablate each site of the toy model at decode steps.")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    table = site_table(options.model, options.problems, options.seed)
    sites = {name: without_nan(row) for name, row in table.items()}
    content = {"problems": options.problems, "seed": options.seed, "sites": sites}
    options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
