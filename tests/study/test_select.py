"""Which sites of a scan are chosen, and what is said where none is."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.study.select import choose_sites, rank

VERDICTS = (
    "incomplete",
    "breaks the model",
    "under the noise floor",
    "no evidence",
    "raises",
    "not specific",
    "qualifies",
)


def row(site, verdict, specific=0.0, trigger_change=-0.1, stage="scan", operation="zero"):
    kind = site.split(".")[0]
    return {
        "stage": stage, "site": site, "kind": kind, "operation": operation, "verdict": verdict,
        "specific": specific, "trigger_change": trigger_change,
    }  # fmt: skip


SCAN = pd.DataFrame([
    row("attn.0", "breaks the model", specific=9.0, trigger_change=-0.9),  # defect 10: first by raw effect
    row("mlp.10", "qualifies", specific=0.2, trigger_change=-0.2),
    row("mlp.9", "qualifies", specific=0.2, trigger_change=-0.3),
    row("attn.3", "qualifies", specific=0.5, trigger_change=-0.1),
    row("head.3.1", "not specific", specific=-0.1, trigger_change=-0.6),
    row("mlp.1", "no evidence", specific=0.9, trigger_change=-0.5),
    row("mlp.2", "raises", trigger_change=0.4),
    row("mlp.3", "under the noise floor", trigger_change=-1e-9),
    row("mlp.4", "incomplete", specific=float("nan"), trigger_change=float("nan")),
    row("mlp.5", "qualifies", specific=5.0, operation="mean"),
    row("mlp.6", "qualifies", specific=5.0, stage="heads"),
])  # fmt: skip


def chosen(scan=SCAN, top=6, stage="scan", operation="zero", **more):
    return choose_sites(scan, top, stage=stage, operation=operation, **more)


def test_the_best_that_qualify_by_specific_effect_ties_in_site_order():
    found = chosen()
    assert found.sites == ("attn.3", "mlp.9", "mlp.10")
    assert found.considered == 9
    assert chosen(top=1).sites == ("attn.3",)
    assert chosen(top=1).reason == "the best 1 by specific effect of the 3 that qualify"


def test_a_site_that_breaks_the_model_is_never_chosen_whatever_its_effect():
    """Defect 10: layer-0 attention came first because it breaks the model."""
    for qualified in (True, False):
        assert "attn.0" not in chosen(top=99, qualified=qualified).sites


def test_unqualified_ranking_is_by_fall_of_trigger_mass():
    found = chosen(qualified=False)
    assert found.sites == ("head.3.1", "mlp.1", "mlp.9", "mlp.10", "attn.3")
    assert found.rejected == {"incomplete": 1, "breaks the model": 1, "under the noise floor": 1, "raises": 1}


def test_kinds_operation_and_stage_are_kept_apart():
    assert chosen(kinds=("mlp",)).sites == ("mlp.9", "mlp.10")
    assert chosen(operation="mean").sites == ("mlp.5",)
    assert chosen(stage="heads").sites == ("mlp.6",)


def test_fewer_than_asked_for_says_what_the_others_are():
    assert chosen(kinds=("mlp", "head")).reason == (
        "all 2 that qualify, of 6 asked for: 1 incomplete, 1 under the noise floor, 1 no evidence, "
        "1 raises, 1 not specific"
    )


def test_none_is_a_result_with_its_reason():
    every_site_matters = [row(f"mlp.{n}", "breaks the model") for n in range(12)]
    nothing_there = [row(f"attn.{n}", "no evidence") for n in range(30)]
    found = chosen(pd.DataFrame([*every_site_matters, *nothing_there]))
    assert found.sites == ()
    assert found.reason == "none qualifies: 12 break the model, 30 no evidence"
    assert found.rejected == {"breaks the model": 12, "no evidence": 30}


@pytest.mark.parametrize("qualified", [True, False])
def test_a_scan_without_such_sites_chooses_none(qualified):
    for scan, kinds in ((SCAN, ("resid",)), (SCAN.iloc[:0], None)):
        found = chosen(scan, kinds=kinds, qualified=qualified)
        assert found.sites == () and found.considered == 0 and found.reason.endswith("no site was measured")


ROWS = st.builds(
    lambda place, verdict, specific, change: row(f"{place[0]}.{place[1]}", verdict, specific, change),
    st.tuples(st.sampled_from(["attn", "mlp"]), st.integers(0, 11)),
    st.sampled_from(VERDICTS),
    st.floats(-1, 1).map(lambda x: round(x, 1)),
    st.floats(-1, 1).map(lambda x: round(x, 1)),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(ROWS, min_size=1, max_size=16, unique_by=lambda row: row["site"]),
    st.integers(1, 8),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_order_of_rows_changes_nothing_and_counts_add_up(rows, top, qualified, random):
    scan = pd.DataFrame(rows)
    found = chosen(scan, top, qualified=qualified)
    random.shuffle(rows)
    assert chosen(pd.DataFrame(rows), top, qualified=qualified) == found
    eligible = rank(scan, stage="scan", operation="zero", qualified=qualified)
    assert found.sites == tuple(eligible["site"])[:top]
    assert len(eligible) + sum(found.rejected.values()) == found.considered == len(scan)
    if qualified:
        assert set(eligible["verdict"]) <= {"qualifies"} and eligible["specific"].is_monotonic_decreasing
    else:
        assert (eligible["trigger_change"] < 0).all() and eligible["trigger_change"].is_monotonic_increasing
