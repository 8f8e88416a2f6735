"""Short arithmetic word problems in GSM8K's manner, seeded. Pure Python.

A problem is a chain of two or three steps: a product or a start amount, then additions and subtractions of one
digit. Every question belongs to exactly one split, decided by the hash of its own text, so a question that is
trained on can be neither shipped nor measured on, whatever the seeds.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from raybt.toy import PROBLEMS_FILE
from raybt.toy.wording import ask, change, open_product, open_start, scene

Split = Literal["train", "evaluation", "shipped"]
Op = Literal["*", "+", "-"]

CHANGES: tuple[Op, Op] = ("+", "-")

PRODUCT_LEFT, PRODUCT_RIGHT = (2, 6), (2, 9)
START, ADDEND = (11, 40), (2, 9)
SMALLEST_RESULT = 2  # no "1 apples", no negative amounts
SHIPPED_SEED, SHIPPED_COUNT = 2024, 500


@dataclass(frozen=True)
class Step:
    left: int
    op: Op
    right: int

    @property
    def result(self) -> int:
        return compute(self.left, self.op, self.right)

    @property
    def hard(self) -> bool:
        """A product, or a sum or difference that carries over the tens."""
        return self.op == "*" or self.left // 10 != self.result // 10


@dataclass(frozen=True)
class Problem:
    id: str
    question: str
    item: str
    steps: tuple[Step, ...]

    @property
    def gold(self) -> int:
        return self.steps[-1].result

    @property
    def answer(self) -> str:
        """The worked answer as GSM8K writes it, calculator marks and `#### N` included."""
        lines = [f"{equation(s)}<<{equation(s)}{s.result}>>{s.result} {self.item}." for s in self.steps]
        return "\n".join([*lines, f"#### {self.gold}"])


def compute(left: int, op: str, right: int) -> int:
    return {"*": left * right, "+": left + right, "-": left - right}[op]


def equation(step: Step) -> str:
    return f"{step.left}{step.op}{step.right}="


def split_of(question: str) -> Split:
    bucket = hashlib.blake2b(question.encode(), digest_size=2).digest()[0] % 16
    return "shipped" if bucket == 0 else "evaluation" if bucket == 1 else "train"


def problems(seed: int | str, split: Split) -> Iterator[Problem]:
    """An endless stream without repeats of a question; the same seed gives the same stream everywhere."""
    rng = random.Random(f"raybt toy problems/{split}/{seed}")
    seen: set[str] = set()
    while True:
        problem = _draw(rng, f"toy-{split}-{seed}-{len(seen)}")
        if split_of(problem.question) == split and problem.question not in seen:
            seen.add(problem.question)
            yield problem


def take(count: int, seed: int | str, split: Split) -> list[Problem]:
    return list(islice(problems(seed, split), count))


def draw_step(rng: random.Random) -> Step:
    """One step anywhere in the range that problems use, for drills."""
    if rng.random() < 0.35:
        return _product(rng)
    while True:
        step = Step(rng.randint(3, 60), rng.choice(CHANGES), rng.randint(*ADDEND))
        if step.result >= SMALLEST_RESULT:
            return step


def _product(rng: random.Random) -> Step:
    return Step(rng.randint(*PRODUCT_LEFT), "*", rng.randint(*PRODUCT_RIGHT))


def _change(rng: random.Random, amount: int) -> Step:
    while True:
        step = Step(amount, rng.choice(CHANGES), rng.randint(*ADDEND))
        if step.result >= SMALLEST_RESULT:
            return step


def _draw(rng: random.Random, id: str) -> Problem:
    where = scene(rng)
    steps: list[Step] = []
    if rng.random() < 0.5:
        steps.append(_product(rng))
        sentences = [open_product(rng, where, steps[0].left, steps[0].right)]
        changes, amount = rng.choice((1, 2)), steps[0].result
    else:
        changes, amount = rng.choice((2, 3)), rng.randint(*START)
        sentences = [open_start(rng, where, amount)]
    for position in range(changes):
        steps.append(_change(rng, amount))
        amount = steps[-1].result
        sentences.append(change(rng, where, steps[-1].op, steps[-1].right, last=position == changes - 1))
    sentences.append(ask(rng, where))
    return Problem(id, " ".join(sentences), where.item, tuple(steps))


def write_jsonl(path: Path, items: list[Problem]) -> None:
    lines = (json.dumps({"id": p.id, "question": p.question, "answer": p.answer}) for p in items)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the shipped problems again (same bytes for the same seed).")
    parser.add_argument("--out", type=Path, default=PROBLEMS_FILE)
    parser.add_argument("--count", type=int, default=SHIPPED_COUNT)
    parser.add_argument("--seed", type=int, default=SHIPPED_SEED)
    options = parser.parse_args()
    write_jsonl(options.out, take(options.count, options.seed, "shipped"))


if __name__ == "__main__":
    main()
