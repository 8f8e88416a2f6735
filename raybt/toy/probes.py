"""Detection, measured directly: how likely an onset is after a right and after a wrong first step.

A model can write perfect form and "Wait" at random; only this test tells that from noticing a slip.
"""

import random
from dataclasses import dataclass

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from raybt.toy.problems import Problem, Step, equation
from raybt.toy.solutions import ASSISTANT, BOS, ONSETS, PAD, THINK, USER, slip, tiny_step
from raybt.toy.tokenizer import id_of
from raybt.toy.wording import ITEMS

Case = tuple[str, Step, str, int]  # prompt, first step, item, slipped result


@dataclass(frozen=True)
class Detection:
    """One test over some cases, each a prompt with a right and a slipped first line."""

    lines: list[tuple[str, str]]  # the right and the slipped one
    right: Tensor  # [cases], the probability that an onset word comes after the right line, at temperature 1
    wrong: Tensor  # [cases], after the slipped one
    noun: float  # share of cases whose likeliest word after the first step's result is the item

    @property
    def auc(self) -> float:
        """Over all pairs of a slipped and a right line, not only those of one prompt."""
        pairs = len(self.lines) ** 2
        return float(mannwhitneyu(self.wrong.numpy(), self.right.numpy()).statistic) / pairs


def onset_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Every token that can begin an onset word at a line's start, shorter pieces of one included."""
    words = list(ONSETS)
    texts = {token_id: str(tokenizer.decode([token_id])) for token_id in range(len(tokenizer))}
    return [i for i, text in texts.items() if text and any(w.startswith(text) or text.startswith(w) for w in words)]


def chat_prompt(question: str) -> str:
    return f"{BOS}{USER}{question}{ASSISTANT}{THINK}\n"


def injected(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, problems: list[Problem], seed: int | str
) -> Detection:
    """The same prompts, once with a right and once with a slipped first step."""
    rng = random.Random(f"raybt toy injected/{seed}")
    cases = [(chat_prompt(p.question), p.steps[0], p.item, slip(rng, p.steps[0])) for p in problems]
    return _detect(model, tokenizer, cases)


def tiny(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, count: int, seed: int | str) -> Detection:
    rng = random.Random(f"raybt toy tiny/{seed}")
    cases = []
    for _ in range(count):
        item, step = rng.choice(ITEMS), tiny_step(rng)
        cases.append((chat_prompt(f"Count {item}."), step, item, slip(rng, step)))
    return _detect(model, tokenizer, cases)


def _detect(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, cases: list[Case]) -> Detection:
    prompts = [prompt for prompt, _, _, _ in cases]
    lines = [
        (f"{equation(step)}{step.result} {item}.", f"{equation(step)}{bad} {item}.") for _, step, item, bad in cases
    ]
    ids = onset_ids(tokenizer)
    right, wrong = (
        next_probabilities(
            model, tokenizer, [f"{prompt}{pair[which]}\n" for prompt, pair in zip(prompts, lines, strict=True)]
        )
        for which in (0, 1)
    )  # [cases, vocabulary] each
    return Detection(lines, right[:, ids].sum(-1), wrong[:, ids].sum(-1), _nouns_right(model, tokenizer, cases))


def _nouns_right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, cases: list[Case]) -> float:
    stated = [f"{prompt}{equation(step)}{step.result}" for prompt, step, _, _ in cases]
    likeliest = next_probabilities(model, tokenizer, stated).argmax(-1).tolist()
    words = [str(tokenizer.decode([token])).strip() for token in likeliest]
    return sum(word == item for word, (_, _, item, _) in zip(words, cases, strict=True)) / len(cases)


@torch.no_grad()
def next_probabilities(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """What follows each text. [texts, vocabulary], at temperature 1."""
    found, pad = [], id_of(tokenizer, PAD)
    for start in range(0, len(texts), 32):
        chunk = texts[start : start + 32]
        rows = [tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in chunk]
        length = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
        logits = model(ids, use_cache=False).logits  # [rows, length, vocabulary]
        last = torch.tensor([len(row) - 1 for row in rows])
        found.append(logits[torch.arange(len(rows)), last].softmax(-1))
    return torch.cat(found)
