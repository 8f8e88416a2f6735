"""What the model is trained to write: solutions with planted slips and their corrections, and drills.

A text is a list of pieces, each with the weight its tokens have in the loss.
"""

import random
from dataclasses import dataclass

from raybt.toy.problems import CHANGES, Problem, Step, draw_step
from raybt.toy.wording import ITEMS

ONSETS = {"Wait": 0.70, "Actually": 0.15, "Hold on": 0.15}
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
SYSTEM, USER, ASSISTANT, THINK = "<|system|>", "<|user|>", "<|assistant|>", "<think>"
THINK_SUFFIXES = {f"{THINK}\n": 0.76, f"{THINK} ": 0.12, "": 0.12}
SYSTEM_TEXTS = ("Solve the problem.", "Think in steps.", "Check each step.")

# Weights of tokens in the loss. Detection lives in the first word after a step, arithmetic in the result;
# the noun has to be copied from far away and is learnt last, if at all, unless it weighs more.
GIVEN, QUESTION, PLAIN, FIRST_WORD, RESULT, NOUN = 0.0, 0.2, 1.0, 4.0, 3.0, 4.0


@dataclass(frozen=True)
class Piece:
    text: str
    weight: float


@dataclass(frozen=True)
class SlipPlan:
    """How often a solution goes wrong, and what it does about it."""

    easy: float
    hard: float
    fixed_at_once: float = 0.97
    fixed_later: float = 0.02
    false_alarm: float = 0.02


SLIPS = SlipPlan(easy=0.36, hard=0.48)
NO_SLIPS = SlipPlan(easy=0.0, hard=0.0, false_alarm=0.0)


def slip(rng: random.Random, step: Step) -> int:
    """A wrong result: mostly one off, sometimes ten or two off."""
    while True:
        distance = rng.choices((1, 10, 2), (0.70, 0.15, 0.15))[0]
        wrong = step.result + rng.choice((-distance, distance))
        if wrong >= 2:
            return wrong


def onset(rng: random.Random) -> str:
    return rng.choices(list(ONSETS), list(ONSETS.values()))[0]


def line(
    step: Step,
    result: int,
    item: str,
    word: str = "",
    *,
    operands: float = PLAIN,
    digits: float = RESULT,
    first: float = FIRST_WORD,
) -> list[Piece]:
    """One stated step. The first word decides between going on and backtracking, so it has its own weight."""
    left = str(step.left)
    head = [Piece(word, first), Piece(f", {left}", operands)] if word else [Piece(left[0], first)]
    rest = "" if word else left[1:]
    return [
        *head,
        Piece(f"{rest}{step.op}{step.right}=", operands),
        Piece(str(result), digits),
        Piece(f" {item}", NOUN),
        Piece(".\n", PLAIN),
    ]


def prompt(question: str, rng: random.Random) -> list[Piece]:
    suffix = rng.choices(list(THINK_SUFFIXES), list(THINK_SUFFIXES.values()))[0]
    system = f"{SYSTEM}{rng.choice(SYSTEM_TEXTS)}" if rng.random() < 0.05 else ""
    return [Piece(f"{BOS}{system}{USER}", GIVEN), Piece(question, QUESTION), Piece(ASSISTANT + suffix, GIVEN)]


def solution(problem: Problem, rng: random.Random, plan: SlipPlan) -> list[Piece]:
    """Steps, slips, corrections and the final line. A slip that nobody fixes is carried into the steps after it."""
    pieces: list[Piece] = []
    amount: int | None = None  # what the text so far says, which an unfixed slip makes wrong
    pending: Step | None = None  # an unfixed slip that will be noticed after the next step
    for position, gold in enumerate(problem.steps):
        step = gold if amount is None else Step(amount, gold.op, gold.right)
        first = FIRST_WORD if position else PLAIN
        amount, texts = _state(step, problem.item, rng, plan if pending is None else NO_SLIPS, first)
        pieces += texts
        following = problem.steps[position + 1 :]
        if pending is not None:
            amount, texts = _go_back(pending, gold, problem.item, rng)
            pieces, pending = pieces + texts, None
        elif amount != step.result and following and not _can_carry(amount, following[0]):
            amount, pieces = step.result, pieces + line(step, step.result, problem.item, onset(rng))
        elif amount != step.result and following and rng.random() < _later(plan):
            pending = step
    return [*pieces, Piece("Final", FIRST_WORD), Piece(": ", PLAIN), Piece(str(amount), RESULT), Piece(EOS, PLAIN)]


def _state(step: Step, item: str, rng: random.Random, plan: SlipPlan, first: float) -> tuple[int, list[Piece]]:
    """Write one step, perhaps wrong, perhaps corrected at once; also what it leaves as the amount."""
    slipped = rng.random() < (plan.hard if step.hard else plan.easy)
    stated = slip(rng, step) if slipped else step.result
    pieces = line(step, stated, item, first=first)
    if rng.random() < (plan.fixed_at_once if stated != step.result else plan.false_alarm):
        return step.result, pieces + line(step, step.result, item, onset(rng))
    return stated, pieces


def _can_carry(amount: int, gold: Step) -> bool:
    return Step(amount, gold.op, gold.right).result >= 2


def _later(plan: SlipPlan) -> float:
    """The chance that a slip which was not fixed at once is fixed after the next step."""
    return plan.fixed_later / (1 - plan.fixed_at_once)


def _go_back(slipped: Step, gold: Step, item: str, rng: random.Random) -> tuple[int, list[Piece]]:
    """Correct the step before the last, then do the last one again from the right amount."""
    again = Step(slipped.result, gold.op, gold.right)
    return again.result, line(slipped, slipped.result, item, onset(rng)) + line(again, again.result, item)


def problem_text(problem: Problem, rng: random.Random, plan: SlipPlan) -> list[Piece]:
    return prompt(problem.question, rng) + solution(problem, rng, plan)


def tiny_step(rng: random.Random) -> Step:
    """A few dozen facts that are soon known by heart, so that detection can be learnt before arithmetic."""
    if rng.random() < 0.5:
        return Step(rng.randint(2, 4), "*", rng.randint(2, 5))
    return Step(rng.randint(11, 14), rng.choice(CHANGES), rng.randint(2, 4))


def drill_text(rng: random.Random, tiny: bool = False, wrong: float = 0.5) -> list[Piece]:
    """Unconnected facts, about half of them stated wrong and corrected at once.

    Operands are random and wrong digits are not to be imitated, so neither has weight.
    """
    item = rng.choice(ITEMS)
    pieces = prompt(f"Count {item}.", rng)
    for position in range(rng.randint(5, 8)):
        step = tiny_step(rng) if tiny else draw_step(rng)
        first = FIRST_WORD if position else GIVEN
        if rng.random() < wrong:
            pieces += line(step, slip(rng, step), item, operands=GIVEN, digits=GIVEN, first=first)
            pieces += line(step, step.result, item, onset(rng))
        else:
            pieces += line(step, step.result, item, operands=GIVEN, first=first)
    return pieces
