from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.measure.statistics import clustered_mean, clustered_rate, exact_p, holm, paired_difference, wilson


def problem_rates(rng, problems, mean, correlation):
    """A rate for each problem, beta distributed: two samples of one problem correlate by `correlation`."""
    scale = (1 - correlation) / correlation
    return rng.beta(mean * scale, (1 - mean) * scale, problems)


def coverage(problems, samples, mean, correlation, runs=400):
    """How often (clustered, plain) intervals hold the true rate."""
    rng = np.random.default_rng(0)
    clusters, hits = np.repeat(np.arange(problems), samples), []
    for _ in range(runs):
        values = rng.random(len(clusters)) < np.repeat(problem_rates(rng, problems, mean, correlation), samples)
        _, low, high = clustered_rate(values, clusters)
        plain_low, plain_high = wilson(values.sum(), len(values))
        hits.append((low <= mean <= high, plain_low <= mean <= plain_high))
    return np.mean(hits, axis=0)


@pytest.mark.parametrize(("problems", "samples", "mean", "correlation"), [(24, 4, 0.4, 0.4), (50, 6, 0.37, 0.32)])
def test_clustered_intervals_cover_where_plain_ones_do_not(problems, samples, mean, correlation):
    """Defect 13: samples of one problem are not independent (design effect of the study's baseline: 2.6)."""
    clustered, plain = coverage(problems, samples, mean, correlation)
    assert 0.93 <= clustered <= 0.99
    assert plain < 0.87


@pytest.mark.parametrize(
    ("problems", "mean", "correlation"), [(24, 0.03, 0.2), (24, 0.95, 0.3), (6, 0.4, 0.3), (24, 0.5, 0.001)]
)
def test_clustered_intervals_cover_in_the_corners(problems, mean, correlation):
    assert coverage(problems, 4, mean, correlation, 300)[0] >= 0.92


def test_the_test_of_a_pair_errs_as_often_as_it_says():
    rng, clusters, rejected = np.random.default_rng(1), np.repeat(np.arange(24), 4), []
    for _ in range(400):
        rates = np.repeat(problem_rates(rng, 24, 0.4, 0.4), 4)
        base, treated = rng.random((2, 96)) < rates
        _, low, high, p = paired_difference(base, treated, clusters)
        assert (p < 0.05) == (low > 0 or high < 0)
        rejected.append(p < 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.075


def test_pairing_sees_what_two_intervals_do_not():
    rng, clusters = np.random.default_rng(2), np.repeat(np.arange(40), 4)
    base = rng.random(160) < np.repeat(problem_rates(rng, 40, 0.5, 0.6), 4)
    treated = base & (rng.random(160) < 0.8)
    difference, _, high, p = paired_difference(base, treated, clusters)
    assert high < 0 and p < 0.01 and difference == pytest.approx(treated.mean() - base.mean())
    assert clustered_rate(treated, clusters)[2] > clustered_rate(base, clusters)[1]


def test_wilson():
    assert wilson(0, 10) == (0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(50, 100) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert all(map(isnan, wilson(0, 0)))
    assert all(wilson(n, n)[1] == 1 and wilson(0, n)[0] == 0 for n in range(1, 300))


def test_where_nothing_can_be_estimated_each_cluster_is_one_value():
    clusters = np.repeat(np.arange(10), 5)
    assert clustered_rate(np.zeros(50), clusters) == (0, *wilson(0, 10))
    assert clustered_rate(np.ones(50), clusters) == (1, *wilson(10, 10))
    assert clustered_rate([1, 0, 1, 1], [3, 3, 3, 3]) == (0.75, *wilson(0.75, 1))
    assert clustered_rate([1], ["a"]) == (1, *wilson(1, 1))
    assert all(map(isnan, clustered_rate([], [])))


def test_copies_of_a_value_add_nothing():
    once, labels = np.array([1, 0, 1, 1, 0, 0, 1, 0] * 3), np.arange(24)
    assert clustered_rate(np.repeat(once, 8), np.repeat(labels, 8))[1:] == pytest.approx(
        clustered_rate(once, labels)[1:], abs=0.01
    )


def test_independent_values_need_no_correction():
    values = np.random.default_rng(3).random(2000) < 0.3
    assert clustered_rate(values, np.arange(2000))[1:] == pytest.approx(wilson(values.sum(), 2000), abs=0.001)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
@settings(deadline=None, max_examples=150)
def test_an_interval_holds_its_rate_and_is_no_narrower_than_wilson(rows):
    values, clusters = zip(*rows, strict=True)
    rate, low, high = clustered_rate(values, clusters)
    plain_low, plain_high = wilson(sum(values), len(values))
    assert 0 <= low <= rate <= high <= 1
    assert high - low >= plain_high - plain_low - 1e-9


def test_degenerate_pairs_have_no_interval():
    nothing = paired_difference([], [], [])
    assert all(map(isnan, nothing))
    difference, low, high, p = paired_difference([1, 0], [0, 0], ["a", "a"])
    assert difference == -0.5 and all(map(isnan, (low, high, p)))
    difference, low, high, p = paired_difference([1, 0, 1], [1, 0, 1], ["a", "b", "c"])
    assert (difference, p) == (0, 1) and isnan(low) and isnan(high)
    difference, low, high, p = paired_difference([1] * 10, [0] * 10, range(10))  # pyright: ignore
    assert (difference, p) == (-1, 2**-9) and isnan(low) and isnan(high)


def test_a_clustered_mean_by_hand():
    """Cluster means 2 and 6, two values each: standard error 2, one degree of freedom, t = 12.706."""
    mean, low, high = clustered_mean([1, 3, 6, 6], ["a", "a", "b", "b"])
    assert (mean, low, high) == (4, pytest.approx(4 - 25.412, abs=1e-3), pytest.approx(4 + 25.412, abs=1e-3))
    assert clustered_mean([5, 7], ["a", "a"])[0] == 6 and isnan(clustered_mean([5, 7], ["a", "a"])[1])
    assert all(map(isnan, clustered_mean([], [])))


def test_holm():
    assert holm([0.01, 0.04, nan, 0.03]) == pytest.approx([0.03, 0.06, nan, 0.06], nan_ok=True)
    assert holm([]).shape == (0,)
    assert np.isnan(holm([nan])).all()


@pytest.mark.parametrize(
    ("effect", "controls", "expected"),
    [
        (-0.5, [-0.1] * 19, (1 / 20, 0)),
        (-0.5, [-0.5] + [0.0] * 18, (2 / 20, 1)),  # a tie counts
        (-0.5, [0.6] + [0.0] * 18, (2 / 20, 1)),
        (0.0, [0.1, -0.1, 0.0], (1, 3)),
        (-0.3, [-(0.1 + 0.2)], (1, 1)),  # -0.30000000000000004
        (-0.1 - 0.2, [-0.3], (1, 1)),
        (-0.5, [nan, -0.1], (1 / 2, 0)),
        (-1.0, [], (1, 0)),
    ],
)
def test_exact_p(effect, controls, expected):
    found = exact_p(effect, controls)
    assert (pytest.approx(found.p), found.as_extreme) == expected
    assert found.floor == 1 / (1 + sum(not isnan(control) for control in controls)) <= found.p


def test_no_effect_no_p():
    assert isnan(exact_p(nan, [0.1]).p)


def test_a_target_that_is_one_of_the_controls_is_found_as_often_as_p_says():
    rng = np.random.default_rng(0)
    found = np.array([exact_p(draws[0], draws[1:]).p for draws in rng.normal(size=(2000, 20))])
    for level in (0.05, 0.1, 0.25):
        assert np.mean(found <= level + 1e-9) == pytest.approx(level, abs=0.02)
