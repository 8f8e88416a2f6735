"""Measure the toy model: `python -m raybt.toy.evaluate --json FILE [--problems 300] [--model DIR] [--seed N]`.

Fresh problems (of the `evaluation` split, which training never draws from), the plain chat template, the model in
fp32, temperature 0.7, top-p 1, top-k 0, at most 128 new tokens, one row at a time by plain `model.generate` after
`torch.manual_seed(row seed)`; so each row of the JSON can be generated again from its seed and prompt ids alone.

    accuracy         share of completions whose last line is `Final: N` with N the gold answer
    accuracy_banned  the same seeds with every token that can begin an onset word suppressed
    onset_rate       share of completions with at least one line begun by an onset word (Wait, Actually, Hold on)
    step_error       wrong steps among stated steps, corrections included (`labels` says what wrong means)
    p_onset_wrong    P(the next line begins with an onset word | wrong step); steps that end the text do not count
    p_onset_right    the same after a right step
    injected_auc     area under the ROC curve of the onset probability after a slipped against a right first step,
                     both written by us after the same prompts, over all pairs, at temperature 1
    nouns_right      share of the stated steps that name a noun which name the problem's item
    rows             seed, question, gold, item, prompt_ids, completion_ids, text, steps (text, label, onset, noun,
                     next_onset), the same ids and text with onsets banned, and injected (both lines, and the onset
                     probability after each)

The exit code is 1, and the gates that failed are named, if one does.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from raybt.toy import MODEL_DIR
from raybt.toy.labels import final_of, onset_word, stated_steps
from raybt.toy.probes import injected, onset_ids
from raybt.toy.problems import Problem, take

SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 128}
Row = dict[str, Any]
Measures = dict[str, float]

GATES: dict[str, tuple[str, Callable[[Measures], bool]]] = {
    "accuracy": ("at least 0.85", lambda m: m["accuracy"] >= 0.85),
    "accuracy_banned": ("at least 0.20 below accuracy", lambda m: m["accuracy"] - m["accuracy_banned"] >= 0.20),
    "onset_rate": ("0.33 to 0.70", lambda m: 0.33 <= m["onset_rate"] <= 0.70),
    "step_error": ("at least 0.05", lambda m: m["step_error"] >= 0.05),
    "p_onset_wrong": ("at least 0.80", lambda m: m["p_onset_wrong"] >= 0.80),
    "p_onset_right": ("at most a tenth of p_onset_wrong", lambda m: m["p_onset_right"] * 10 <= m["p_onset_wrong"]),
    "injected_auc": ("at least 0.97", lambda m: m["injected_auc"] >= 0.97),
    "nouns_right": ("at least 0.90", lambda m: m["nouns_right"] >= 0.90),
}


def load(folder: Path | str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def prompt_ids(tokenizer: PreTrainedTokenizerFast, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def complete(model: PreTrainedModel, prompt: list[int], seed: int, banned: list[int] | None = None) -> list[int]:
    """One completion by plain `generate`, its eos token included."""
    ids = torch.tensor([prompt])
    torch.manual_seed(seed)
    generate: Any = model.generate  # typed as a tensor by nn.Module
    out = generate(ids, attention_mask=torch.ones_like(ids), suppress_tokens=banned, **SAMPLING)
    return out[0, len(prompt) :].tolist()


def measure_row(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, problem: Problem, seed: int) -> Row:
    prompt = prompt_ids(tokenizer, problem.question)
    ids = complete(model, prompt, seed)
    banned = complete(model, prompt, seed, onset_ids(tokenizer))
    text = decode(tokenizer, ids)
    return {
        "seed": seed,
        "question": problem.question,
        "gold": problem.gold,
        "item": problem.item,
        "prompt_ids": prompt,
        "completion_ids": ids,
        "text": text,
        "steps": [asdict(step) for step in stated_steps(text, problem.steps)],
        "completion_ids_banned": banned,
        "text_banned": decode(tokenizer, banned),
    }


def share(values: list[bool]) -> float:
    """NaN where there is nothing to count, which passes no gate."""
    return sum(values) / len(values) if values else float("nan")


def without_nan(found: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {name: None if value != value else value for name, value in found.items()}


def measures(rows: list[Row]) -> Measures:
    """Every gate but the injected test, from the rows alone."""
    steps = [(row, step) for row in rows for step in row["steps"]]
    followed = [step for _, step in steps if step["next_onset"] is not None]
    return {
        "accuracy": share([final_of(row["text"]) == row["gold"] for row in rows]),
        "accuracy_banned": share([final_of(row["text_banned"]) == row["gold"] for row in rows]),
        "onset_rate": share([any(map(onset_word, row["text"].split("\n"))) for row in rows]),
        "step_error": share([step["label"] != "right" for _, step in steps]),
        "p_onset_wrong": share([step["next_onset"] for step in followed if step["label"] != "right"]),
        "p_onset_right": share([step["next_onset"] for step in followed if step["label"] == "right"]),
        "nouns_right": share([step["noun"] == row["item"] for row, step in steps if step["noun"]]),
    }


def evaluate(folder: Path | str, count: int, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    model, tokenizer = load(folder)
    problems = take(count, seed, "evaluation")
    rows = [measure_row(model, tokenizer, p, seed * 1_000_000 + i) for i, p in enumerate(problems)]
    detection = injected(model, tokenizer, problems, seed)
    for row, (right, wrong), *p in zip(rows, detection.lines, detection.right, detection.wrong, strict=True):
        row["injected"] = {"right": right, "wrong": wrong, "p_right": p[0].item(), "p_wrong": p[1].item()}
    found = measures(rows) | {"injected_auc": detection.auc}
    return found | {"seed": seed, "problems": count, "rows": rows}


def failed_gates(found: Measures) -> list[str]:
    return [f"{name} is {found[name]:.3f}, must be {rule}" for name, (rule, holds) in GATES.items() if not holds(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the toy model's gates.")
    parser.add_argument("--json", type=Path, required=True, help="where the measures and all rows go")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = evaluate(options.model, options.problems, options.seed)
    options.json.write_text(json.dumps(without_nan(found), indent=1) + "\n", encoding="utf-8")
    for name, (rule, _) in GATES.items():
        print(f"{name:<16} {found[name]:.3f}  ({rule})")
    if failed := failed_gates(found):
        sys.exit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
