"""What is decided from complete waves, and from nothing else."""

import numpy as np
import pandas as pd
import pytest

from raybt.study.decide import NOTHING, decide
from raybt.study.decisions import Decisions
from raybt.study.split import in_half
from tests.study.configs import SIX, study

PROBLEMS = [f"p{number}" for number in range(30)]


class Complete:
    """Waves that are complete: tables made by hand."""

    def __init__(self, grades=None, scan=None, estimates=None):
        self.grades, self.scan, self.rungs = grades, scan, estimates or {}
        self.asked = []

    def graded(self, variant, problems):
        self.asked.append((variant, frozenset(problems)))
        return None if self.grades is None else self.grades[self.grades["problem"].isin(problems)]

    def scanned(self, stage):
        return self.scan

    def estimates(self, stage):
        return self.rungs.get(stage)


def grades():
    """Two completions a problem of 12 tokens: one with an onset at token 5, one without a trigger."""
    rows = []
    for problem in PROBLEMS:
        for sample, onset in enumerate((5.0, np.nan)):
            has = onset == onset
            rows.append({"key": f"{problem}-{sample}", "variant": "default", "problem": problem, "sample": sample,
                         "n_tokens": 12, "onset_strict": has, "onset_relaxed": has, "onset_token": onset,
                         "onset_token_id": 77.0 if has else np.nan, "sentence_starts": [0, 4, 8],
                         "token_ids": list(range(100, 112))})  # fmt: skip
    return pd.DataFrame(rows)


def scan(**verdicts):
    """A scan table: verdict by site; those that qualify in the order given, the first the most specific."""
    rows = [
        {"stage": "scan", "site": site.replace("_", "."), "kind": site.partition("_")[0], "operation": "zero",
         "verdict": verdict, "specific": 1.0 - place / 10, "trigger_change": -0.5}
        for place, (site, verdict) in enumerate(verdicts.items())
    ]  # fmt: skip
    return pd.DataFrame(rows)


def estimate(subset, scale, onset, accuracy, collapsed=False):
    """One candidate against a baseline that backtracks in 60% and is right in 90% of 200 completions."""
    row = {"subset": subset, "scale": scale, "n_sites": 1, "problems": 40, "pairs": 200, "collapsed": collapsed,
           "onset_rate_baseline": 0.6, "onset_rate": onset, "accuracy_baseline": 0.9, "accuracy": accuracy}  # fmt: skip
    for stem, difference in (("onset", onset - 0.6), ("accuracy", accuracy - 0.9)):
        ends = (("", 0.0), ("_low", -0.02), ("_high", 0.02))
        row |= {f"{stem}_difference{end}": difference + off for end, off in ends}
    return row


def named(found):
    return {decision.name: decision for decision in found}


def test_a_config_without_stages_decides_nothing():
    config = study().model_copy(update={"stages": {}})
    assert decide(config, SIX, Decisions(), PROBLEMS, Complete(grades(), scan(mlp_3="qualifies"))) == []


def test_before_the_first_wave_only_the_controls_of_known_subsets_are_drawn():
    config = study(grids={"t": {"subsets": ["fixed", "found"], "controls": 3}})
    found = decide(config, SIX, Decisions(), PROBLEMS, NOTHING)
    assert [one.name for one in found] == ["controls:fixed"]
    subsets = found[0].value["subsets"]
    assert found[0].value["exist"] == len(subsets) == 2 and ["mlp.2"] not in subsets  # half of a shallow model's MLPs
    assert decide(config, SIX, Decisions(found), PROBLEMS, NOTHING) == []


def test_events_come_from_their_half_and_a_scans_controls_follow_what_is_written_there():
    config = study({"lens": {"kind": "lens", "events": 6}})
    finished = Complete(grades())
    found = named(decide(config, SIX, Decisions(), PROBLEMS, finished))
    half = frozenset(in_half(PROBLEMS, config.seed, config.problems.select, "select"))
    assert set(finished.asked) == {("default", half)} and 0 < len(half) < len(PROBLEMS)
    lens, scanned = (found[f"events:{name}"].value["events"] for name in ("lens", "scan"))
    assert {event["problem"] for event in (*lens, *scanned)} <= half
    assert sum(event["role"] == "onset" for event in lens) == 6
    assert {event["target"] for event in lens} == {77}
    written = {event["target"] for event in scanned if event["role"] == "position"}
    assert written == {105}  # the token at the onset's own place, in another completion


def test_a_choice_of_events_does_not_depend_on_the_order_of_rows():
    config, table = study(), grades()
    one = decide(config, SIX, Decisions(), PROBLEMS, Complete(table))
    assert one == decide(config, SIX, Decisions(), PROBLEMS, Complete(table.sample(frac=1, random_state=3)))


def test_sites_are_those_that_qualify_and_a_scan_that_finds_none_says_why():
    some = scan(mlp_3="qualifies", attn_1="qualifies", mlp_0="breaks the model", attn_2="no evidence")
    found = named(decide(study(), SIX, Decisions(), PROBLEMS, Complete(scan=some)))
    assert found["sites:found"].value == ["mlp.3", "attn.1"] and found["sites:mixed"].value == ["mlp.3"]
    none = scan(mlp_0="breaks the model", attn_2="no evidence")
    found = named(decide(study(), SIX, Decisions(), PROBLEMS, Complete(scan=none)))
    assert (
        found["sites:best"].value == []
        and "none qualifies: 1 breaks the model, 1 no evidence" in found["sites:best"].reason
    )


def test_a_model_that_never_backtracks_has_no_event_and_no_site_and_nothing_waits():
    calm = grades().assign(onset_strict=False, onset_relaxed=False, onset_token=np.nan, onset_token_id=np.nan)
    finished, decided = Complete(calm), Decisions()
    for _ in range(2):  # events, then sites
        decided = decided.with_more(decide(study(), SIX, decided, PROBLEMS, finished))
    assert decided.value("events:scan")["events"] == []
    sites = next(one for one in decided if one.name == "sites:found")
    assert sites.value == [] and sites.reason == "none qualifies: no site was measured"


def test_controls_of_a_found_subset_are_drawn_with_it():
    config = study(grids={"t": {"subsets": ["found"], "controls": 2}})
    found = named(decide(config, SIX, Decisions(), PROBLEMS, Complete(scan=scan(mlp_3="qualifies"))))
    assert found["controls:found"].value["subsets"] == [["mlp.4"], ["mlp.5"]]


@pytest.fixture
def search():
    stages = {"s": {"kind": "search", "subsets": ["layers"], "scales": [0], "rungs": 2, "keep": 0.34, "margin": 0.05}}
    return study(stages)


def rung(*rows):
    return pd.DataFrame([estimate(*row) for row in rows])


def test_a_search_keeps_names_and_confirms(search):
    first = rung(("layers.mlp.0", 0.0, 0.05, 0.2), ("layers.mlp.1", 0.0, 0.1, 0.9), ("layers.mlp.2", 0.0, 0.6, 0.9))
    waves = Complete(estimates={"s.rung1": first})
    decided = Decisions(decide(search, SIX, Decisions(), PROBLEMS, waves))
    after = decided.value("search:s:1")
    assert [one["subset"] for one in after["survivors"]] == ["layers.mlp.1"]
    assert {one["subset"] for one in after["dropped"]} == {"layers.mlp.0", "layers.mlp.2"}
    waves.rungs["s.rung2"] = rung(("layers.mlp.1", 0.0, 0.1, 0.9))
    decided = decided.with_more(decide(search, SIX, decided, PROBLEMS, waves))
    assert decided.value("search:s:2")["survivors"] == after["survivors"]
    assert "confirm:s" not in decided and decide(search, SIX, decided, PROBLEMS, waves) == []  # its rows are missing
    waves.rungs["s.confirm"] = rung(("layers.mlp.1", 0.0, 0.1, 0.9))
    (last,) = decide(search, SIX, decided, PROBLEMS, waves)
    assert last.name == "confirm:s" and last.value["confirmed"] and "falls by 83%" in last.reason
    assert decide(search, SIX, decided.with_more([last]), PROBLEMS, waves) == []


def test_none_within_the_margin_ends_a_search(search):
    lost = rung(*((f"layers.mlp.{layer}", 0.0, 0.05, 0.2) for layer in range(3)))
    waves, decided = Complete(estimates={"s.rung1": lost, "s.rung2": lost}), Decisions()
    while more := decide(search, SIX, decided, PROBLEMS, waves):
        decided = decided.with_more(more)
    assert decided.value("search:s:1")["survivors"] == [] and decided.value("search:s:2")["survivors"] == []
    assert "confirm:s" not in decided
