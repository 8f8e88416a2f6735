"""Halves of the problems: stable, disjoint, random, never empty unnoticed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.errors import UserError
from raybt.study.split import digest, half, hash_order, in_half

MANY = tuple(f"gsm8k/{number}" for number in range(2000))


def test_halves_are_disjoint_and_all():
    select, confirm = in_half(MANY, 0, 0.5, "select"), in_half(MANY, 0, 0.5, "confirm")
    assert not set(select) & set(confirm)
    assert set(select) | set(confirm) == set(MANY) == set(in_half(MANY, 0, 0.5, "all"))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_share_is_kept(share):
    assert len(in_half(MANY, 7, share, "select")) / len(MANY) == pytest.approx(share, abs=0.03)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.sets(st.sampled_from(MANY[:60]), min_size=1), st.integers(0, 5))
def test_a_problem_keeps_its_half_and_its_place_as_others_come_and_go(some, seed):
    everything = MANY[:60]
    assert hash_order(some, seed) == tuple(p for p in hash_order(everything, seed) if p in some)
    for which in ("select", "confirm"):
        expected = tuple(p for p in in_half(everything, seed, 0.5, which) if p in some)
        assert tuple(p for p in hash_order(some, seed) if half(seed, p, 0.5) == which) == expected


def test_neither_order_nor_repeats_of_the_input_matter():
    assert in_half([*reversed(MANY), MANY[0]], 1, 0.5, "select") == in_half(MANY, 1, 0.5, "select")


def test_a_prefix_of_all_problems_is_a_random_sample_of_both_halves():
    prefix = in_half(MANY, 0, 0.5, "all")[:400]
    assert 160 < sum(half(0, problem, 0.5) == "select" for problem in prefix) < 240


def test_another_seed_is_another_split():
    assert in_half(MANY, 0, 0.5, "select") != in_half(MANY, 1, 0.5, "select")


def test_assignments_stay_as_they_are():
    """A new raybt must not move problems from one half to the other in runs that are there."""
    assert [half(0, problem, 0.5)[0] for problem in MANY[:8]] == list("sscscccs")
    assert digest(0, "half", "gsm8k/0") == 91466717525784436


@pytest.mark.parametrize("which", ["select", "confirm"])
@pytest.mark.parametrize(("share", "empty"), [(0.0, "select"), (1.0, "confirm")])
def test_an_empty_half_is_refused_whichever_is_asked_for(which, share, empty):
    with pytest.raises(UserError, match=f"none of 2000 problems to {empty} .* Fix: take more problems"):
        in_half(MANY, 0, share, which)
    assert len(in_half(MANY, 0, share, "all")) == 2000


def test_parts_do_not_run_together():
    assert digest(0, "a", "bc") != digest(0, "ab", "c")
