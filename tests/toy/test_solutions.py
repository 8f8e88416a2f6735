"""What is planted is what the labeller finds."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybt.toy.labels import final_of, stated_steps
from raybt.toy.problems import Step, take
from raybt.toy.solutions import (
    ASSISTANT,
    EOS,
    NO_SLIPS,
    ONSETS,
    THINK,
    SlipPlan,
    drill_text,
    problem_text,
    slip,
    solution,
)

ALWAYS = SlipPlan(easy=1.0, hard=1.0, fixed_at_once=1.0, fixed_later=0.0, false_alarm=0.0)
NEVER_FIXED = SlipPlan(easy=1.0, hard=1.0, fixed_at_once=0.0, fixed_later=0.0)
FIXED_LATER = SlipPlan(easy=1.0, hard=1.0, fixed_at_once=0.0, fixed_later=1.0, false_alarm=0.0)
seeds = st.integers(0, 10**6)


def written(seed, plan):
    (problem,) = take(1, seed, "train")
    text = "".join(piece.text for piece in solution(problem, random.Random(seed), plan))
    assert text.endswith(EOS)
    text = text.removesuffix(EOS)
    return problem, text, stated_steps(text, problem.steps)


@given(seed=seeds)
def test_a_clean_solution_has_every_step_right_and_no_onset(seed):
    problem, text, steps = written(seed, NO_SLIPS)
    assert [(s.label, s.onset, s.noun) for s in steps] == [("right", "", problem.item)] * len(problem.steps)
    assert final_of(text) == problem.gold


@given(seed=seeds)
def test_each_planted_slip_is_wrong_and_its_correction_right(seed):
    problem, text, steps = written(seed, ALWAYS)
    assert [s.label for s in steps] == ["arithmetic", "right"] * len(problem.steps)
    assert [s.next_onset for s in steps] == [True, False] * len(problem.steps)
    assert all(s.onset in ONSETS for s in steps[1::2])
    assert final_of(text) == problem.gold


@given(seed=seeds)
def test_a_slip_fixed_later_goes_back_and_ends_right(seed):
    _, _, steps = written(seed, FIXED_LATER)
    assert steps[0].label == "arithmetic"
    if not steps[1].onset:  # fixed later, unless the next step could not be done from the wrong amount
        assert [s.label for s in steps[1:4]] == ["carried", "right", "right"]
        assert steps[2].onset in ONSETS


@given(seed=seeds)
def test_an_unfixed_slip_is_carried(seed):
    _, text, steps = written(seed, NEVER_FIXED)
    assert all(step.wrong for step in steps if not step.onset)
    assert final_of(text) is not None


@given(seed=seeds, left=st.integers(2, 60), right=st.integers(2, 9))
def test_a_slip_is_wrong_and_positive(seed, left, right):
    step = Step(left, "+", right)
    assert 2 <= slip(random.Random(seed), step) != step.result


@given(seed=seeds, tiny=st.booleans())
def test_drills_weigh_no_wrong_digit(seed, tiny):
    pieces = drill_text(random.Random(seed), tiny=tiny)
    head = next(i for i, piece in enumerate(pieces) if piece.text.startswith(ASSISTANT))
    lines = "".join(piece.text for piece in pieces[head + 1 :]).splitlines()
    results = [piece for before, piece in itertools.pairwise(pieces) if before.text.endswith("=")]
    assert len(lines) == len(results)
    for line, result in zip(lines, results, strict=True):
        operands, stated = line.split(", ")[-1].split(" ")[0].split("=")
        assert (result.weight > 0) == (eval(operands) == int(stated))


def test_onset_words_and_think_suffixes_are_all_used():
    rng = random.Random(0)
    texts = ["".join(p.text for p in problem_text(problem, rng, ALWAYS)) for problem in take(100, 0, "train")]
    assert all(any(f"\n{word}, " in text for text in texts) for word in ONSETS)
    for suffix in (f"{THINK}\n", f"{THINK} ", ""):
        assert any(f"{ASSISTANT}{suffix}{digit}" in text for text in texts for digit in "123456789")


STEPS = (Step(4, "*", 6), Step(24, "-", 7))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("6*4=24 pens.\n24-7=17 pens.\nFinal: 17", ["right", "right"]),
        ("4*6=25 pens.\n25-7=18 pens.\nFinal: 18", ["arithmetic", "carried"]),
        ("4*7=28 pens.\nWait, 4*6=24 pens.\n24-7=17 pens.", ["operand", "right", "right"]),
        ("4*6=24 pens.\n7-24=-17 pens.", ["right", "operand"]),
        ("4*6=24 pens.\n24-7=17 pens.\n17-7=10 pens.", ["right", "right", "extra"]),
        ("4*6=24 pens.\n24-7=17 pens.\nActually, 24-7=17 pens.", ["right", "right", "right"]),
        ("4*6=23 pens.\n23-7=16 pens.\nHold on, 4*6=24 pens.\n24-7=17", ["arithmetic", "carried", "right"]),
        ("I do not know.", []),
    ],
)
def test_labels(text, labels):
    assert [step.label for step in stated_steps(text, STEPS)] == labels


def test_going_back_past_a_step_with_the_same_change():
    text = "38-9=28 pens.\n28-9=19 pens.\nWait, 38-9=29 pens.\n29-9=20 pens."
    found = stated_steps(text, (Step(38, "-", 9), Step(29, "-", 9)))
    assert [step.label for step in found] == ["arithmetic", "carried", "right", "right"]


@pytest.mark.parametrize(
    ("text", "final"), [("Final: 17", 17), ("1+1=2 pens.\nFinal: 2\n", 2), ("Final: 1\nWait", None)]
)
def test_final(text, final):
    assert final_of(text) == final
