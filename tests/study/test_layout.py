"""What can be run now, and what still waits."""

import pytest

from raybt.config import BASELINE
from raybt.plan.layout import CONTROL, DIRECTION, TARGET
from raybt.study.decisions import Decision, Decisions
from raybt.study.layout import find_families, lay_out
from tests.study.configs import SIX, study

PROBLEMS = [f"p{number}" for number in range(40)]
GRIDS = {
    "sweep": {"subsets": ["fixed", "layers"], "scales": [0, 0.5]},
    "targeted": {"subsets": ["found", "fixed"], "controls": 2},
}


def decided(**values):
    return Decisions(Decision(name.replace("__", ":"), value, "", "") for name, value in values.items())


def candidate(subset, scale):
    return {"subset": subset, "scale": scale, "n_sites": 1}


def told(layout):
    return [(part.stage, part.grid and part.grid.subsets, part.role, part.of) for part in layout.parts]


def test_before_the_scan_what_is_spelled_out_runs_and_the_rest_waits():
    layout = lay_out(study(grids=GRIDS), SIX, Decisions(), PROBLEMS, ())
    assert told(layout) == [
        (BASELINE, None, TARGET, None),
        ("sweep", ("fixed", "layers.mlp.0", "layers.mlp.1", "layers.mlp.2"), TARGET, None),
        ("targeted", ("fixed",), TARGET, None),
    ]
    assert layout.waiting == {"targeted": "the sites of found"}
    assert layout.subsets["layers.mlp.1"] == ("mlp.1",)


def test_what_a_scan_found_runs_on_the_other_half_with_its_controls():
    made = decided(
        sites__found=["mlp.5", "attn.2"],
        controls__found={"subsets": [["attn.0", "mlp.3"], ["attn.1", "mlp.4"]], "exist": 8},
        controls__fixed={"subsets": [], "exist": 0},
    )
    layout = lay_out(study(grids=GRIDS), SIX, made, PROBLEMS, ())
    assert told(layout)[2:] == [
        ("targeted", ("found", "fixed"), TARGET, None),
        ("targeted", ("found.control01", "found.control02"), CONTROL, "found"),
    ]
    assert layout.subsets["found"] == ("attn.2", "mlp.5") and layout.subsets["found.control02"] == ("attn.1", "mlp.4")
    assert not layout.waiting
    confirm = set(layout.problems["targeted"])
    search = lay_out(study({"s": {"kind": "search", "subsets": ["fixed"]}}), SIX, made, PROBLEMS, ())
    assert confirm and not confirm & set(search.problems["s.rung1"])  # what selects never confirms


def test_a_scan_that_found_nothing_leaves_the_baseline_and_does_not_wait():
    layout = lay_out(study(grids={"t": {"subsets": ["found", "best"]}}), SIX, decided(sites__found=[], sites__best=[]),
                     PROBLEMS, ())  # fmt: skip
    assert told(layout)[1:] == [("t", (), TARGET, None)] and not layout.waiting


def test_families_keep_the_best_first_and_mixed_subsets_add_what_was_found():
    families = find_families(study(), SIX, decided(sites__best=["mlp.4", "attn.1"], sites__mixed=["mlp.3"]))
    assert families.members["best"] == ("best.top1", "best.top2")
    assert families.sites["best.top1"] == ("mlp.4",) and families.sites["best.top2"] == ("attn.1", "mlp.4")
    assert families.sites["mixed"] == ("attn.1", "mlp.3") and "found" not in families.members


def test_directions_wait_for_their_vectors_and_add_what_the_scale_takes_away():
    grids = {"t": {"subsets": ["fixed"], "scales": [0, 0.75, 1], "directions": 2}}
    waiting = lay_out(study({"scan": {"kind": "scan", "operations": ["zero"]}}, grids), SIX, Decisions(), PROBLEMS, ())
    assert waiting.waiting == {"t": "the vectors fixed.direction01"}
    assert waiting.measured_at == {f"fixed.direction0{n}": ("mlp.2",) for n in (1, 2)}
    names = ["fixed.direction01", "fixed.direction02"]
    layout = lay_out(study(grids=grids), SIX, Decisions(), PROBLEMS, names)
    added = [part for part in layout.parts if part.role == DIRECTION]
    assert [(part.grid.vectors, part.grid.doses, part.of_dose) for part in added if part.grid] == [
        (name, (dose,), scale) for name in names for dose, scale in ((1.0, 0.0), (0.25, 0.75))
    ]
    assert layout.vectors["fixed.direction01"].like == "fixed.outputs"


def test_a_scan_with_means_asks_for_the_mean_of_every_site():
    layout = lay_out(study({"scan": {"kind": "scan", "sites": ["mlp.*"]}}), SIX, Decisions(), PROBLEMS, ())
    assert layout.measured_at == {"scan.means": tuple(f"mlp.{layer}" for layer in range(6))}


def test_a_search_goes_rung_by_rung_and_confirms_its_winner_on_the_other_half():
    stages = {"s": {"kind": "search", "subsets": ["layers"], "scales": [0, 0.5], "rungs": 2, "keep": 0.5}}
    first = lay_out(study(stages), SIX, Decisions(), PROBLEMS, ())
    assert [one for one in first.stages if one.startswith("s.")] == ["s.rung1"]
    survivors = [candidate("layers.mlp.1", 0.5), candidate("layers.mlp.0", 0.0)]
    second = lay_out(study(stages), SIX, decided(search__s__1={"survivors": survivors}), PROBLEMS, ())
    grids = [part.grid for part in second.parts if part.stage == "s.rung2"]
    asked = [(("layers.mlp.1",), (0.5,)), (("layers.mlp.0",), (0.0,))]
    assert [(grid.subsets, grid.scales) for grid in grids if grid] == asked
    assert set(second.problems["s.rung1"]) < set(second.problems["s.rung2"])
    none = decided(search__s__1={"survivors": survivors}, search__s__2={"survivors": []})
    assert "s.confirm" not in lay_out(study(stages), SIX, none, PROBLEMS, ()).stages
    won = decided(search__s__1={"survivors": survivors}, search__s__2={"survivors": survivors[:1]})
    last = lay_out(study(stages), SIX, won, PROBLEMS, ())
    assert last.stages[-1] == "s.confirm" and not set(last.problems["s.confirm"]) & set(last.problems["s.rung2"])


@pytest.mark.parametrize("stages", [{}, {"lens": {"kind": "lens"}}])
def test_the_baseline_runs_on_all_problems_beside_stages(stages):
    layout = lay_out(study(stages), SIX, Decisions(), PROBLEMS, ())
    assert layout.stages[0] == BASELINE and BASELINE not in layout.problems
