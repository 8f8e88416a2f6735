"""Scan, sweep and search name the sites that cause backtracking and no others, and none where there are none."""

import re

import pytest

from raybt.errors import COMPLETE
from raybt.study.split import half

pytestmark = pytest.mark.timeout(600)  # a whole study, on a machine that may be busy

CAUSES = {"one": ["mlp.0"], "two": ["attn.0", "mlp.0"]}
HEAD = {"one": [], "two": ["head.0.3"]}


@pytest.fixture(params=["one", "two"])
def planted(request):
    """(study, the sites that cause the onset, the head among them)."""
    return request.getfixturevalue(request.param), CAUSES[request.param], HEAD[request.param]


def qualifying(study, **equal) -> list[str]:
    return sorted(study.table("scan", verdict="qualifies", **equal)["site"])


def lowering(study, stage) -> list[str]:
    """Conditions that lower the onset rate of a model that they leave whole."""
    found = study.table("conditions", stage=stage, role="target", finding="lowers")
    assert not found["collapsed"].any()
    return sorted(found["condition"])


def test_they_backtrack_and_the_cause_can_be_removed_without_harm(planted):
    study, causes, _ = planted
    assert study.outcome.exit_code == COMPLETE and study.outcome.waiting == ()
    rows = study.table("conditions", stage="layers").set_index("condition")
    assert 0.2 < rows.loc["baseline", "onset_rate"] < 0.8 and rows.loc["baseline", "accuracy_all"] > 0.9
    for site in causes:
        removed = rows.loc[f"sites.{site}@0"]
        assert removed["onset_rate"] == 0 and abs(removed["accuracy_all"] - rows.loc["baseline", "accuracy_all"]) < 0.05


@pytest.mark.parametrize("operation", ["zero", "mean"])
def test_the_scan_names_them_and_no_others(planted, operation):
    study, causes, _ = planted
    assert qualifying(study, stage="scan", operation=operation) == causes
    rows = study.table("scan", stage="scan", operation=operation)
    assert len(rows) == 14 and (rows["done"] >= 10).all() and (rows["failed"] == 0).all()
    best = rows.iloc[: len(causes)]  # the most specific first
    assert sorted(best["site"]) == causes and (best["trigger_change"] < -0.9).all()
    others = rows.iloc[len(causes) :]
    assert others["trigger_change"].abs().max() < 0.01  # nothing else has a part in it, though many break the model


def test_the_scan_of_heads_names_the_head_and_no_other(planted):
    study, _, head = planted
    assert len(study.table("scan", stage="heads")) == 28 and qualifying(study, stage="heads") == head


def test_the_sweep_of_single_sites_names_them_and_no_others(planted):
    study, causes, _ = planted
    assert lowering(study, "layers") == [f"sites.{site}@0" for site in causes]
    sweep = study.table("conditions", stage="layers", role="target")
    assert len(sweep) == 14 and sweep["collapsed"].sum() >= 5  # others do worse, and no claim is made of them


def test_what_the_scan_found_is_what_is_targeted_and_no_control_does_the_same(planted):
    study, causes, _ = planted
    sites, reason = study.decision("sites:found")
    assert sorted(sites) == causes and f"all {len(causes)} that qualify" in reason
    assert lowering(study, "targeted") == ["found@0"]
    assert lowering(study, "cumulative") == [f"ranked.top{count + 1}@0" for count in range(len(causes))]
    controls = study.table("conditions", stage="targeted", role="control")
    assert len(controls) == {1: 3, 2: 6}[len(causes)]  # of one site there are no more
    told = study.table("controls", stage="targeted", measure="onset_rate").iloc[0]
    assert told["controls"] == len(controls) and told["effect"] < -0.3
    assert told["p"] == pytest.approx((1 + told["as_extreme"]) / (1 + len(controls)))


def test_the_search_finds_one_of_them_and_the_other_half_confirms_it(planted):
    study, causes, _ = planted
    value, reason = study.decision("confirm:search")
    subset = value["candidate"]["subset"]
    assert value["confirmed"] and reason.startswith("confirmed") and subset in [f"sites.{site}" for site in causes]
    rows = study.table("search")
    within = rows.loc[rows["within"] & (rows["rung"] == 2)]
    assert set(within["subset"]) <= {f"sites.{site}" for site in causes}
    (told,) = rows.loc[rows["phase"] == "confirm"].to_dict("records")
    assert told["verdict"] == "confirmed" and told["reduction"] > 0.5 and told["accuracy_difference_low"] > -0.1
    assert f"chose `{subset}@0.5`" in study.report


def test_what_selects_never_confirms(planted):
    study, _, _ = planted
    plan = study.file("plan")
    used = plan.assign(half=[half(0, problem, 0.4) for problem in plan["problem"]]).groupby("stage")["half"].agg(set)
    for name, stages in (("select", ["layers", "search.rung1", "search.rung2"]),
                         ("confirm", ["targeted", "cumulative", "search.confirm"])):  # fmt: skip
        assert all(used[stage] == {name} for stage in stages)
    for stage, name in (("scan", "select"), ("continuation", "confirm")):
        events, _ = study.decision(f"events:{stage}")
        assert {half(0, event["problem"], 0.4) for event in events["events"]} == {name}


def test_at_the_onset_the_triggers_lose_their_mass(planted):
    study, _, _ = planted
    steps = study.table("steps").set_index("condition")
    assert steps.loc["found@0", "trigger_mass_baseline"] > 0.95 and steps.loc["found@0", "trigger_mass"] < 0.05
    assert steps.loc["found@0", "trigger_change_high"] < -0.9 and steps.loc["found@0", "p_holm"] < 0.001
    assert steps.loc["found@1", "trigger_change"] == steps.loc["found@1", "kl"] == 0
    rates = study.table("continuations").set_index("condition")
    assert rates.loc["baseline", "at_once"] == rates.loc["found@1", "at_once"] == 1
    assert rates.loc["found@0", "at_once"] == 0
    words = study.table("words", condition="found@0").set_index("word")
    assert words.loc["(everything else)", "mass"] > 0.95


def test_the_lens_sees_the_onset_written_where_it_is(one):
    lens = one.table("lens", role="onset").set_index("place")
    assert lens.loc["attn.0", "log_probability"] < -3 and lens.loc["mlp.0", "log_probability"] > -0.01
    parts = one.table("attribution", role="onset").set_index("component")["attribution"]
    assert parts["mlp.0"] > 30 and parts.drop("mlp.0").abs().max() < 1
    assert one.table("lens", role="context")["log_probability"].max() < -3  # no sentence start has it


def test_where_every_site_matters_none_qualifies_and_the_report_says_so(entangled):
    assert entangled.outcome.exit_code == COMPLETE
    scan = entangled.table("scan", stage="scan")
    assert len(scan) == 12 and set(scan["verdict"]) == {"breaks the model"} and (scan["trigger_change"] < -0.5).all()
    for name in ("sites:found", "sites:ranked"):
        assert entangled.decision(name) == ([], "none qualifies: 12 break the model")
    baseline = entangled.table("conditions", stage="layers", condition="baseline").iloc[0]
    assert baseline["onset_rate"] > 0.2 and baseline["accuracy_all_low"] > baseline["chance_accuracy"]
    sweep = entangled.table("conditions", stage="layers", role="target")
    assert sweep["collapsed"].all() and (sweep["finding"] == "collapsed").all()
    text = entangled.report
    assert "No site qualifies where the site is removed. 12 sites break the model" in text
    assert "No condition qualifies" in text


def test_where_every_site_matters_the_search_finds_none_within_the_margin(entangled):
    assert entangled.decision("search:search:1")[1] == "0 of 24 candidates go on: 24 collapsed"
    value, reason = entangled.decision("search:search:2")
    assert value["survivors"] == [] and reason.startswith("none within the margin")
    rows = entangled.table("search")
    assert set(rows["verdict"]) == {"collapsed"} and not rows["within"].any()
    text = entangled.report
    assert re.search(r"The search `search` found none within the margin", text) and "has not ended" not in text


def test_a_study_that_found_nothing_still_has_a_whole_report(entangled):
    for stage in ("targeted", "cumulative"):  # nothing to run but the baseline
        assert list(entangled.table("conditions", stage=stage)["condition"]) == ["baseline"]
    assert list(entangled.table("continuations")["condition"]) == ["baseline"]
    assert {"scan_scan", "search_search"} <= entangled.figures
    assert (entangled.root / "report.html").stat().st_size > 10_000
