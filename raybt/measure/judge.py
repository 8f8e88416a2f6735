"""Judge completions: their onsets and their grades, joined to the problem by key and blind to the condition."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from raybt.config import Triggers
from raybt.measure.coherence import compression, repetition
from raybt.measure.grading import answer_value, grade
from raybt.measure.onset import RELAXED, STRICT, Onset, find_onsets
from raybt.measure.sentences import sentence_starts
from raybt.measure.tokens import TokenText, decode
from raybt.store.schemas import EVENTS, GRADES


class Chance:
    """How often an answer would be right by luck: the share of the other problems whose gold answer it equals.

    That is what gold answers dealt out among the other problems give in expectation, exactly and at O(1) an answer.
    """

    def __init__(self, gold_of: Mapping[str, str]):
        self.value_of = {problem: answer_value(gold) for problem, gold in gold_of.items()}
        self.count_of = Counter(self.value_of.values())

    def __call__(self, problem: str, answer: str | None) -> float:
        """Share of the other problems, 0 to 1; 0 for no answer and where there is no other problem."""
        others = len(self.value_of) - 1
        if answer is None or others < 1:
            return 0.0
        value = answer_value(answer)
        return (self.count_of[value] - (value == self.value_of[problem])) / others


def judge(
    completions: pa.Table, problem_of: Mapping[str, str], gold_of: Mapping[str, str], tokenizer, triggers: Triggers
) -> tuple[pa.Table, pa.Table]:
    """Find the onsets of completions and grade them.

    Args:
        completions: `COMPLETIONS` rows, in any order; `key`, `token_ids` and `finish_reason` are read.
        problem_of: row key -> problem id.
        gold_of: problem id -> gold answer, of all problems of the run (`chance` depends on them all).
        tokenizer: a transformers `PreTrainedTokenizerFast`.

    Returns:
        `EVENTS`, one row a match of a trigger or a watched word, and `GRADES`, one row a completion, in the order of
        `completions`.

    Raises:
        ValueError: a completion whose key has no problem, or whose problem has no gold answer.
    """
    chance, events, grades = Chance(gold_of), [], []
    for row in completions.select(["key", "token_ids", "finish_reason"]).to_pylist():
        problem = _problem(row["key"], problem_of, gold_of)
        text = decode(tokenizer, row["token_ids"])
        onsets = find_onsets(text, triggers)
        events += [_event(row, onset) for onset in onsets]
        judged = _graded(row, text, gold_of[problem]) | _onset_columns(onsets)
        grades.append(judged | {"chance": chance(problem, judged["answer"])})
    return pa.Table.from_pylist(events, EVENTS), pa.Table.from_pylist(grades, GRADES)


def _problem(key: str, problem_of: Mapping[str, str], gold_of: Mapping[str, str]) -> str:
    problem = problem_of.get(key)
    if problem is None or problem not in gold_of:
        raise ValueError(f"completion {key} belongs to problem {problem}, which has no gold answer here")
    return problem


def _event(row: dict, onset: Onset) -> dict:
    return {
        "key": row["key"],
        "tier": onset.tier,
        "phrase": onset.phrase,
        "char": onset.char,
        "token": onset.token,
        "token_id": row["token_ids"][onset.token],
        "is_onset": onset.is_onset,
    }


def _graded(row: dict, text: TokenText, gold: str) -> dict:
    graded = grade(text.text, gold, row["finish_reason"])
    return {
        "key": row["key"],
        "text": text.text,
        "n_tokens": len(row["token_ids"]),
        "finish_reason": row["finish_reason"],
        "verdict": graded.verdict,
        "answer": graded.answer,
        "answer_so_far": graded.answer_so_far,
        "gold": gold,
        "repetition": repetition(row["token_ids"]),
        "compression": compression(text.text),
        "sentence_starts": sentence_starts(text),
    }


def _onset_columns(onsets: list[Onset]) -> dict:
    chosen = next((onset for onset in onsets if onset.is_onset), None)
    return {
        "onset_strict": any(onset.tier == STRICT for onset in onsets),
        "onset_relaxed": any(onset.tier in (STRICT, RELAXED) for onset in onsets),
        "onset_phrase": chosen and chosen.phrase,
        "onset_char": chosen and chosen.char,
        "onset_token": chosen and chosen.token,
    }
