"""The generator: seeded, right, and with splits that cannot touch."""

import itertools
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybt.toy import PROBLEMS_FILE
from raybt.toy.labels import gold_of
from raybt.toy.problems import SHIPPED_COUNT, SHIPPED_SEED, draw_step, split_of, take

SPLITS = ("train", "evaluation", "shipped")


@given(seed=st.integers(0, 10**6), split=st.sampled_from(SPLITS))
def test_same_seed_same_problems_in_their_own_split(seed, split):
    found = take(3, seed, split)
    assert found == take(3, seed, split)
    assert {split_of(problem.question) for problem in found} == {split}
    assert len({problem.question for problem in found}) == len({problem.id for problem in found}) == 3


@given(seed=st.integers(0, 10**6))
def test_arithmetic_is_right_and_chained(seed):
    (problem,) = take(1, seed, "train")
    assert len(problem.steps) in (2, 3)
    for step, following in itertools.pairwise(problem.steps):
        assert following.left == step.result
    for step in problem.steps:
        assert step.result == eval(f"{step.left}{step.op}{step.right}") >= 2
    assert gold_of(problem.answer) == problem.gold == problem.steps[-1].result


@given(seed=st.integers(0, 10**6))
def test_question_states_the_numbers_in_order_and_asks_for_the_item(seed):
    (problem,) = take(1, seed, "evaluation")
    stated = [int(number) for number in re.findall(r"\d+", problem.question)]
    assert stated == [problem.steps[0].left, *(step.right for step in problem.steps)]
    assert problem.item in problem.question.rsplit(". ", 1)[-1]


@given(seed=st.integers(0, 10**6))
def test_drill_steps_are_in_range(seed):
    step = draw_step(random.Random(seed))
    assert step.result >= 2
    assert step.hard == (step.op == "*" or step.left // 10 != step.result // 10)


@pytest.mark.parametrize(("answer", "gold"), [("5*8=<<5*8=40>>40 pens.\n#### 40", 40), ("#### -3 ", -3)])
def test_gold(answer, gold):
    assert gold_of(answer) == gold


def test_answer_without_gold_is_refused():
    with pytest.raises(ValueError, match="must end in '#### N'"):
        gold_of("40 pens.")


def test_shipped_problems_are_the_generator_s():
    rows = [json.loads(line) for line in PROBLEMS_FILE.read_text().splitlines()]
    expected = take(SHIPPED_COUNT, SHIPPED_SEED, "shipped")
    assert rows == [{"id": p.id, "question": p.question, "answer": p.answer} for p in expected]
