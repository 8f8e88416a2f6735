"""Matched random subsets and the exact p-value."""

from collections import Counter
from itertools import combinations
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from raybt.plan.sites import expand, order
from raybt.study.controls import NARROWEST_BAND, WIDEST_BAND, band, matched_subsets

LATE = ("mlp.19", "mlp.20", "mlp.22", "mlp.23", "mlp.24", "mlp.27")  # of the study's 28 layers


@st.composite
def targets(draw):
    """(sites, layers, heads) of models from 1 to 60 layers."""
    n_layers, n_heads = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    layer, head = st.integers(0, n_layers - 1), st.integers(0, n_heads - 1)
    whole = st.builds("{}.{}".format, st.sampled_from(["attn", "mlp", "resid"]), layer)
    sites = draw(st.sets(whole | st.builds("head.{}.{}".format, layer, head), min_size=1, max_size=8))
    return sorted(sites), n_layers, n_heads


def profile(sites, n_layers):
    return Counter((site.split(".")[0], band(int(site.split(".")[1]), n_layers)) for site in sites)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(targets(), st.integers(0, 3), st.integers(1, 25))
def test_controls_match_in_number_kind_and_depth_and_are_distinct(model, seed, count):
    target, n_layers, n_heads = model
    controls = matched_subsets(target, n_layers, n_heads, seed=seed, count=count)
    there = expand(["attn.*", "mlp.*", "resid.*", "head.*.*"], n_layers, n_heads)
    assert len(controls.subsets) == len(controls.overlaps) == min(count, controls.exist)
    assert len(set(controls.subsets)) == len(controls.subsets)
    for subset, overlap in zip(controls.subsets, controls.overlaps, strict=True):
        assert len(set(subset)) == len(subset) and set(subset) <= set(there)
        assert list(subset) == sorted(subset, key=order)
        assert profile(subset, n_layers) == profile(target, n_layers)
        assert set(subset) != set(target)
        assert overlap == len(set(subset) & set(target)) / len(target) < 1


@settings(deadline=None, derandomize=True, max_examples=30)
@given(targets(), st.randoms(use_true_random=False))
def test_controls_depend_on_the_target_as_a_set(model, shuffle):
    target, n_layers, n_heads = model
    other = [*target]
    shuffle.shuffle(other)
    assert matched_subsets(other, n_layers, n_heads, seed=1) == matched_subsets(target, n_layers, n_heads, seed=1)


@pytest.mark.parametrize("n_layers", range(1, 130))
def test_bands_follow_depth_and_are_about_equally_wide(n_layers):
    depths = [band(layer, n_layers) for layer in range(n_layers)]
    widths = list(Counter(depths).values())
    assert depths == sorted(depths) and set(depths) == set(range(len(widths)))
    assert max(widths) - min(widths) <= 1 and max(widths) <= WIDEST_BAND
    assert min(widths) >= min(NARROWEST_BAND, n_layers)


def test_the_studys_late_targets_get_late_controls():
    """Defect 6: its one random control lay below layer 19, all targets above."""
    controls = matched_subsets(LATE, 28, 12, seed=0)
    assert len(controls.subsets) == 20 and controls.exist == comb(9, 6) - 1
    assert {int(site.split(".")[1]) for subset in controls.subsets for site in subset} == set(range(19, 28))


@pytest.mark.parametrize(
    ("target", "n_layers"), [(["mlp.5"], 6), (["mlp.0", "mlp.5"], 6), (["attn.4", "attn.5", "mlp.3"], 6)]
)
def test_where_few_exist_all_are_taken(target, n_layers):
    there = expand(["attn.*", "mlp.*"], n_layers)
    same = [s for s in combinations(there, len(target)) if profile(s, n_layers) == profile(target, n_layers)]
    controls = matched_subsets(target, n_layers, 4, seed=0)
    assert controls.exist == len(same) - 1 < 20
    assert set(controls.subsets) == {tuple(s) for s in same} - {tuple(target)}


def test_a_target_that_fills_its_band_has_no_control():
    controls = matched_subsets(["mlp.3", "mlp.4", "mlp.5"], 6, 4, seed=0)
    assert controls.subsets == () and controls.exist == 0


def test_what_exists_is_counted_without_listing_it():
    target = [f"head.{layer}.{head}" for layer in range(20, 28) for head in range(6)]
    controls = matched_subsets(target, 28, 12, seed=0, count=50)
    assert controls.exist == comb(9 * 12, 48) - 1 and len(controls.subsets) == 50


def test_every_subset_is_drawn_equally_often():
    target = ("mlp.1", "mlp.7", "mlp.8")  # 3 bands of 3 layers: 3 * 3 subsets with this profile
    drawn = Counter(
        subset for seed in range(1600) for subset in matched_subsets(target, 9, 1, seed=seed, count=1).subsets
    )
    assert len(drawn) == matched_subsets(target, 9, 1, seed=0).exist == 8
    assert chisquare(list(drawn.values())).pvalue > 0.01


def test_draws_without_replacement_are_uniform_too():
    drawn = Counter(
        frozenset(matched_subsets(("mlp.0", "mlp.4"), 9, 1, seed=seed, count=2).subsets) for seed in range(2800)
    )
    assert len(drawn) == comb(8, 2) and chisquare(list(drawn.values())).pvalue > 0.01


def test_another_seed_draws_others_and_the_same_seed_the_same():
    first = matched_subsets(LATE, 28, 12, seed=0)
    assert first == matched_subsets(LATE, 28, 12, seed=0) != matched_subsets(LATE, 28, 12, seed=1)
