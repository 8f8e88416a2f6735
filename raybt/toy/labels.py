"""Read a completion of the toy model, line by line, against the problem's own steps.

A stated step is a line `a*b=c noun.`, perhaps begun by an onset word. It stands for the next step of the problem,
or, begun by an onset word, for a step already stated that it does again. Its label is one of

    right       operands, operation and result are the problem's
    arithmetic  the result does not follow from the operands
    operand     the result follows, but operands or operation are not the problem's
    carried     as `operand`, where the first operand is the wrong amount that the text stated before
    extra       the problem has no step left to state

and every label but `right` is a wrong step. Two factors or summands may be swapped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raybt.toy.problems import Step, compute
from raybt.toy.solutions import ONSETS

Label = Literal["right", "arithmetic", "operand", "carried", "extra"]

ONSET_LINE = re.compile(rf"(?P<word>{'|'.join(ONSETS)})\b")
STEP = re.compile(r"(?P<left>-?\d+)(?P<op>[*+-])(?P<right>\d+)=(?P<result>-?\d+)(?: (?P<noun>[^\W\d]+))?\.")
FINAL = re.compile(r"Final: (-?\d+)")
GOLD = re.compile(r"####\s*(-?\d+)\s*$")


@dataclass(frozen=True)
class Stated:
    text: str
    label: Label
    onset: str  # the onset word that begins the line, or ""
    noun: str  # the item that the line names, or ""
    next_onset: bool | None  # does the next line begin with an onset word; None where the text ends here

    @property
    def wrong(self) -> bool:
        return self.label != "right"


def gold_of(answer: str) -> int:
    """The number after `####` in an answer written as GSM8K writes it."""
    found = GOLD.search(answer)
    if found is None:
        raise ValueError(f"a gold answer must end in '#### N', this one ends in {answer[-30:]!r}")
    return int(found[1])


def final_of(text: str) -> int | None:
    found = FINAL.fullmatch(text.strip().rsplit("\n", 1)[-1])
    return int(found[1]) if found else None


def onset_word(line: str) -> str:
    found = ONSET_LINE.match(line)
    return found["word"] if found else ""


def stated_steps(text: str, steps: Sequence[Step]) -> list[Stated]:
    lines = [line for line in text.split("\n") if line]
    found: list[Stated] = []
    position, amount = 0, None  # the next step to state, and the amount that the text has reached
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        match = STEP.search(line)
        if match is None:
            continue
        step, result = Step(int(match["left"]), match["op"], int(match["right"])), int(match["result"])  # type: ignore[arg-type]
        at = _restated(step, steps[:position]) if onset_word(line) and position else position
        label = _label(step, result, steps[at] if at < len(steps) else None, amount)
        after = None if following is None else bool(onset_word(following))
        found.append(Stated(line, label, onset_word(line), match["noun"] or "", after))
        position, amount = at + 1, result
    return found


def _restated(step: Step, stated: Sequence[Step]) -> int:
    """Which earlier step a backtracking line does again: one with its operands, else with its change, else the last."""
    same = [i for i, gold in enumerate(stated) if _operands(gold) == _operands(step)]
    alike = [i for i, gold in enumerate(stated) if (gold.op, gold.right) == (step.op, step.right)]
    return (same or alike or [len(stated) - 1])[-1]


def _label(step: Step, result: int, gold: Step | None, amount: int | None) -> Label:
    if result != compute(step.left, step.op, step.right):
        return "arithmetic"
    if gold is None:
        return "extra"
    if _operands(step) == _operands(gold):
        return "right"
    return "carried" if amount == step.left and (step.op, step.right) == (gold.op, gold.right) else "operand"


def _operands(step: Step) -> tuple[str, int, int]:
    pair = (step.left, step.right)
    return (step.op, *(pair if step.op == "-" else sorted(pair)))  # type: ignore[return-value]
