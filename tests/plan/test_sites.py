"""Site patterns and the canonical form of an intervention."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.errors import UserError
from raybt.plan.sites import EMPTY, canonical, expand, order, parse_canonical

LAYERS = 28
SITES = st.builds("{}.{}".format, st.sampled_from(["attn", "mlp"]), st.integers(0, LAYERS - 1))
SCALES = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def patterns(draw):
    """(pattern, the sites that it means)."""
    kind = draw(st.sampled_from(["attn", "mlp"]))
    low, high = sorted(draw(st.tuples(st.integers(0, LAYERS - 1), st.integers(0, LAYERS - 1))))
    meant = {f"{low}": [low], f"{low}-{high}": range(low, high + 1), "*": range(LAYERS)}
    layers = draw(st.sampled_from(sorted(meant)))
    return f"{kind}.{layers}", {f"{kind}.{layer}" for layer in meant[layers]}


@settings(deadline=None, derandomize=True)
@given(st.lists(patterns(), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
def test_patterns_name_the_union_of_their_sites_in_order(named):
    sites = expand([pattern for pattern, _ in named], LAYERS)
    assert set(sites) == set().union(*(meant for _, meant in named))
    assert list(sites) == sorted(set(sites), key=order)


def test_order_is_attention_first_then_by_number():
    assert expand(["mlp.10", "mlp.2", "attn.11", "attn.9-10"], 12) == (
        "attn.9",
        "attn.10",
        "attn.11",
        "mlp.2",
        "mlp.10",
    )


@pytest.mark.parametrize(
    "bad", ["mlp", "mlp.", "mlp.x", "mlp.-1", "mlp.1-", "mlp.01", "ffn.1", "mlp.1.2", " mlp.1", "mlp.٣", ""]
)
def test_malformed_patterns_are_refused(bad):
    with pytest.raises(UserError, match=r"mlp\.19"):
        expand([bad], LAYERS)


@pytest.mark.parametrize(
    ("given_patterns", "says"),
    [
        (["mlp.28"], "layers 0 to 27"),
        (["mlp.20-28"], "layers 0 to 27"),
        (["mlp.9-3"], r"mlp\.3-9"),
        (["mlp.3", "mlp.3"], "only once"),
        ([], "at least one"),
    ],
)
def test_wrong_sites_are_refused_by_name(given_patterns, says):
    with pytest.raises(UserError, match=says):
        expand(given_patterns, LAYERS)


@settings(deadline=None, derandomize=True)
@given(st.lists(SITES, min_size=1, max_size=8), SCALES, st.randoms())
def test_canonical_form_knows_neither_order_nor_repeats(sites, scale, random):
    shuffled = sites * 2
    random.shuffle(shuffled)
    assert canonical(shuffled, scale) == canonical(sites, scale)


@settings(deadline=None, derandomize=True)
@given(st.lists(SITES, min_size=1, max_size=8), SCALES)
def test_canonical_form_reads_back(sites, scale):
    terms = parse_canonical(canonical(sites, scale))
    assert [term.site for term in terms] == ([] if scale == 1 else sorted(set(sites), key=order))
    assert all(term.strength == scale and term.operation == "scale" for term in terms)


@settings(deadline=None, derandomize=True)
@given(st.lists(SITES, max_size=8))
def test_scale_one_is_the_baseline(sites):
    assert canonical(sites, 1.0) == canonical(sites, 1) == EMPTY


def test_minus_zero_is_zero():
    assert canonical(["mlp.0"], -0.0) == canonical(["mlp.0"], 0)
    assert math.copysign(1, parse_canonical(canonical(["mlp.0"], -0.0))[0].strength) == 1
