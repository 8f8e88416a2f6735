"""What a completion answers, and whether that is right."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from math_verify import parse, verify

from raybt.measure.numerals import as_number, last_number, whole_number

__all__ = ["Grade", "answer_value", "as_number", "final_answer", "grade"]

_MARKER = re.compile(
    r"""(?P<boxed>\\boxed\s*\{)
    | \#\#\#\#(?=[^\w\n]{0,12}\d)(?!\s*\d+[.)]\s+[^\W\d])    # a number, and no "#### 2. Heading"
    | \b(?:final(?:\s+answer)?|answer)\s*(?:\*\*)?\s*(?:is\s*)?[:=]\s*(?:\*\*)?
    | \banswer\s+(?:is|was|would\s+be|should\s+be|must\s+be)\b(?!\s+(?:not|wrong|incorrect|right|correct)\b)
    | \*\*\s*(?:final\s+)?answer\s*\*\*""",
    re.VERBOSE | re.IGNORECASE,
)
_LONGEST_STATEMENT = 1000  # characters; a broken model may write "answer: answer: answer:" to the end
_LONGEST_FORMULA = 200  # characters; longer ones are prose, and slow to parse
_RISKY_POWER = re.compile(r"\^[^+\-=]*\^|\^\s*\{?\s*-?\d{4,}|\d\s*!|\*\*")  # 9^9^9 would be evaluated


@dataclass(frozen=True)
class Grade:
    """A verdict on one completion, and the answer it rests on."""

    verdict: str  # correct, wrong, unparseable (ended without a readable answer) or truncated (did not end)
    answer: str | None
    answer_so_far: str | None  # what a truncated completion had said; never graded


def grade(text: str, gold: str, finish_reason: str) -> Grade:
    """Grade the last stated answer of a completion against the gold answer.

    Numbers are compared exactly: 7,500.0 is 7500, but 3.33 is not 10/3. What is no plain number (`\\sqrt{16}`, `x+1`)
    goes to math-verify. A completion that was cut off (`length`) is truncated, whatever it said.

    Raises:
        ValueError: a finish reason that no completion can have.
    """
    if finish_reason not in ("eos", "length"):
        raise ValueError(f"a completion ends by eos or length, got {finish_reason!r}")
    answer = final_answer(text, numeric=_gold_value(gold) is not None)
    if finish_reason == "length":
        return Grade("truncated", None, answer)
    right = None if answer is None else _agree(answer, gold)
    return Grade({True: "correct", False: "wrong", None: "unparseable"}[right], answer, None)


def final_answer(text: str, numeric: bool = True) -> str | None:
    """The last answer stated (`\\boxed{}`, `Final:`, `Answer:`, `####`, "the answer is"), else the last number.

    An explicit statement outranks any plain number, also a later one.

    Args:
        numeric: a number is asked for: statements without one are passed over. Otherwise there is no fallback to
        plain numbers.
    """
    for statement in _statements_from_the_end(text):
        if not numeric or re.search(r"\d", statement):
            return statement
    return last_number(text) if numeric else None


def answer_value(text: str) -> Fraction | str:
    """What two equal plain answers share: the number, or the text without case and outer space."""
    number = as_number(text)
    return _folded(text) if number is None else number


def _statements_from_the_end(text: str) -> Iterator[str]:
    """Every explicit answer, the last one first, markup trimmed, none empty."""
    for marker in reversed(list(_MARKER.finditer(text))):
        rest = text[marker.end() : marker.end() + _LONGEST_STATEMENT]
        statement = _braced(rest) if marker["boxed"] else _sentence(rest)
        statement = statement.strip(" \t\r\n*:").removesuffix(".")
        if statement:
            yield statement


def _braced(rest: str) -> str:
    """Up to the brace that closes one opened before `rest`; the line's end if none does."""
    depth = 1
    for brace in re.finditer(r"[{}]", rest):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return rest[: brace.start()]
    return rest.partition("\n")[0]


def _sentence(rest: str) -> str:
    """The first line that is not blank, up to the end of the first sentence that has a number in it."""
    line = rest.lstrip("\n\r \t*:").partition("\n")[0]
    end = re.search(r"\d[^.!?]*[.!?](?=\s|\*|$)", line)
    return line[: end.end()] if end else line


def _agree(answer: str, gold: str) -> bool | None:
    """Whether two answers are the same; None where the answer cannot be read."""
    wanted, given = _gold_value(gold), as_number(answer)
    if wanted is not None and given is not None:
        return given == wanted
    if _folded(answer) == _folded(gold):
        return True
    if wanted is None and re.fullmatch(r"[^\W\d]{2,}(\s+[^\W\d]+)*", _folded(gold)):
        return False  # words: math-verify would multiply their letters
    return _same_formula(answer, gold)


@lru_cache(maxsize=65536)
def _gold_value(gold: str) -> Fraction | None:
    """A gold answer that is a number; None for `x+1`, in which a number occurs."""
    return None if whole_number(gold) is None else as_number(gold)


def _folded(text: str) -> str:
    return re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", text).strip(" $.*").casefold()


@lru_cache(maxsize=4096)
def _same_formula(answer: str, gold: str) -> bool | None:
    if len(answer) > _LONGEST_FORMULA or _RISKY_POWER.search(answer):
        return None
    # math-verify stops a long evaluation by a signal, which only the main thread may set
    seconds = 5 if threading.current_thread() is threading.main_thread() else None
    gold_forms, forms = (parse(f"${side.strip(' $')}$", parsing_timeout=seconds) for side in (gold, answer))  # pyright: ignore
    if all(isinstance(form, str) for form in forms):  # nothing was understood, the text is handed back
        return None
    return verify(gold_forms, forms, timeout_seconds=seconds)
