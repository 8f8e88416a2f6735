"""A dress rehearsal at full size: both phases of the study, every stage, on a random Qwen2 of 28 narrow layers.

Fewer problems, samples and tokens, and in phase 2 fewer controls and crossed scales: all else is as in the shipped
configs.
"""

import json
from pathlib import Path

import pytest

from raybt.errors import COMPLETE
from raybt.fleet.aggregate import TABLES
from raybt.fleet.driver import run
from raybt.load import load_config
from raybt.study.search import rung_problems
from raybt.study.split import in_half
from tests.fleet.narrow import CAUSE, narrow_qwen2
from tests.fleet.studies import Study
from tests.fleet.without_ray import without_ray

pytestmark = pytest.mark.timeout(900)  # a whole phase, on a machine that may be busy

CONFIGS = Path(__file__).parents[2] / "configs"
SEED, SAMPLES, EVENTS = 42, 2, 15
PROBLEMS = {"phase1": (46, 0.9), "phase2": (58, 0.38)}  # how many, and the share that selects
FEWER = [
    f"interventions.grids.{grid}.{kind}=2"
    for grid in ("subset_sweep", "half_way")
    for kind in ("controls", "directions")
]
LESS = {
    "phase1": ["stages.heads.events=6"],
    "phase2": ["stages.continuation.max_new_tokens=8", "interventions.grids.cross.scales=[0, 0.5]", *FEWER],
}
SUBSETS = ["mlp_27_only", "attn_27_only", "attn_no_early", "mlp_late_cluster", "phase1_full"]


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """`rehearsed("phase1")` is that study, run."""
    folder = tmp_path_factory.mktemp("full-size")
    narrow_qwen2(folder / "model")
    lines = [{"question": f"Ann has {n} pens and buys {n}. How many?", "answer": f"#### {2 * n}"} for n in range(99)]
    (folder / "gsm8k.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def rehearse(phase: str) -> Study:
        count, share = PROBLEMS[phase]
        overrides = [
            *(f"artifacts={folder}", f"model.name={folder}/model", "model.device=cpu", "model.dtype=float32"),
            *(f"problems.name={folder}/gsm8k.jsonl", f"problems.limit={count}", f"problems.select={share}"),
            *(f"sampling.samples={SAMPLES}", "sampling.max_new_tokens=24", "replicas.gpus=0", "replicas.slots=64"),
        ]
        with without_ray():
            return Study(run(load_config(CONFIGS / f"{phase}.yaml", overrides + LESS[phase])))

    return rehearse


@pytest.fixture(scope="module")
def phase1(rehearsed) -> Study:
    return rehearsed("phase1")


@pytest.fixture(scope="module")
def phase2(rehearsed) -> Study:
    return rehearsed("phase2")


def halves(study: Study) -> dict[str, tuple[str, ...]]:
    plan = study.file("plan")
    share = PROBLEMS[study.root.name][1]
    return {which: in_half(plan["problem"], SEED, share, which) for which in ("all", "select", "confirm")}  # pyright: ignore


def targets(study: Study, subset: str) -> int:
    """1, or 0 where the scan found no sites for this subset."""
    return int(bool(study.decision(f"sites:{subset}")[0]))


def with_controls(study: Study, subsets: list[str], directions: int) -> int:
    """Conditions of these subsets, their matched controls, and their random directions."""
    controls = sum(len(study.decision(f"controls:{subset}")[0]["subsets"]) for subset in subsets)
    return len(subsets) * (1 + directions) + controls


def check_rows(study: Study, expected: dict[str, tuple[int, str]]) -> None:
    """expected: stage -> (conditions with the baseline, half of the problems)."""
    rows = study.file("plan").groupby("stage").size().to_dict()
    problems = {which: len(ids) for which, ids in halves(study).items()}
    assert rows == {stage: count * problems[which] * SAMPLES for stage, (count, which) in expected.items()}


def check_measured(study: Study, name: str, events: int) -> int:
    """A stage that has controls measured every onset and control that was chosen; gives the number of onsets."""
    rows = study.file("measurements")
    rows = rows.loc[(rows["stage"] == name) & rows["kind"].isin(["lens", "scan"])]
    value, _ = study.decision(f"events:{name}")
    roles = rows["role"].value_counts().to_dict()
    onsets = roles["onset"]
    assert len(rows) == len(value["events"]) and onsets >= events
    assert {role: roles[role] for role in ("position", "context")} == {
        role: onsets - missing for role, missing in value["unmatched"].items()
    }
    return onsets


def check_whole(study: Study, tables: set[str], figures: set[str]) -> None:
    """Complete, every table there, those named with rows, and every figure in the report."""
    assert study.outcome.exit_code == COMPLETE and study.outcome.waiting == ()
    assert {path.stem for path in (study.root / "tables").glob("*.parquet")} == set(TABLES)
    assert {name for name in TABLES if len(study.table(name))} == tables
    assert figures <= study.figures
    assert all(f"figures/{name}.png" in study.report for name in study.figures)
    conditions = study.table("conditions")
    assert (conditions["done"] == conditions["planned"]).all() and (conditions["failed"] == 0).all()


def test_phase_1_runs_every_stage_on_every_row(phase1):
    targeted = ["published", *(name for name in ("found", "found_heads") if targets(phase1, name))]
    check_rows(
        phase1,
        {
            "baseline": (3, "all"),  # variants
            "targeted": (1 + with_controls(phase1, targeted, directions=20), "confirm"),
            "unqualified": (1 + targets(phase1, "ranked"), "confirm"),
            "layer_sweep": (1 + 56, "confirm"),
            "cumulative": (1 + len(phase1.decision("sites:best")[0]), "confirm"),
        },
    )


def test_phase_1_measures_at_onsets_and_their_controls(phase1):
    for name in ("lens", "scan"):
        onsets = check_measured(phase1, name, EVENTS)
        assert (phase1.table(name, stage=name)["done"] >= onsets - 1).all()
    assert check_measured(phase1, "heads", 6) == 6
    lens, scan = phase1.table("lens"), phase1.table("scan", stage="scan")
    assert len(lens) == 3 * 56 and len(phase1.table("attribution")) == 3 * 58
    assert len(scan) == 2 * 56 and len(phase1.table("scan", stage="heads")) == 28 * 12
    assert set(scan["done"]) == {len(phase1.file("measurements").query("stage == 'scan' and role == 'onset'"))}


def test_phase_1_finds_what_was_planted(phase1):
    assert phase1.decision("sites:found")[0] == [f"mlp.{CAUSE}"]
    assert phase1.table("conditions", stage="targeted", condition="found@0").iloc[0]["onset_rate"] < 0.05


def test_phase_1_has_every_table_and_figure(phase1):
    tables = set(TABLES) - {"steps", "words", "continuations", "search"}
    figures = {"variants", "lens_lens", "attribution_lens", "scan_scan", "heads_heads", "layers_layer_sweep"}
    grids = {f"{kind}_{grid}" for grid in ("targeted", "layer_sweep")
             for kind in ("bars", "tradeoff", "strata", "survival", "placement", "phrases")}  # fmt: skip
    check_whole(phase1, tables, figures | grids)


def test_phase_2_runs_every_stage_on_every_row(phase2):
    candidates = 4 * (len(SUBSETS) + len(phase2.decision("sites:best")[0]))
    left = [len(phase2.decision(f"search:search:{rung}")[0]["survivors"]) for rung in (1, 2, 3)]
    assert left[2] == 1  # a winner, so that there is something to confirm
    expected = {
        "baseline": (1, "all"),
        "subset_sweep": (1 + with_controls(phase2, SUBSETS, directions=2), "select"),
        "scale_sweep": (1 + 5, "select"),
        "cross": (1 + 4 * 2, "select"),
        "half_way": (1 + with_controls(phase2, ["mlp_late_cluster"], directions=2), "select"),
        "search.rung3": (1 + left[1], "select"),
        "search.confirm": (1 + 1, "confirm"),
    }
    rows = phase2.file("plan")
    asked = rows.groupby("stage").size()
    select = halves(phase2)["select"]
    for rung, conditions in ((1, candidates), (2, left[0])):
        problems = rung_problems(select, rung - 1, 3, 1 / 0.34)
        assert asked[f"search.rung{rung}"] == (1 + conditions) * len(problems) * SAMPLES
    assert set(asked.index) == {*expected, "search.rung1", "search.rung2"}
    problems = {which: len(ids) for which, ids in halves(phase2).items()}
    for stage, (count, which) in expected.items():
        assert asked[stage] == count * problems[which] * SAMPLES, stage


def test_phase_2_measures_at_onsets(phase2):
    check_measured(phase2, "scan", EVENTS)
    rows = phase2.file("measurements")
    rows = rows.loc[rows["stage"] == "continuation"]
    events, conditions = rows["event"].nunique(), 1 + 4 * (2 + targets(phase2, "found"))
    assert events >= EVENTS and events == len(phase2.decision("events:continuation")[0]["events"])
    assert rows["kind"].value_counts().to_dict() == {
        "step": events * conditions,
        "continuation": events * conditions * 4,  # draws
    }
    steps, told = phase2.table("steps"), phase2.table("continuations")
    assert len(steps) == len(told) == conditions and (steps["done"] == events).all()
    assert (told["done"] == 4 * events).all() and len(phase2.table("words")) == conditions * (4 + 2)


def test_phase_2_has_every_table_and_figure(phase2):
    tables = set(TABLES) - {"lens", "attribution"}
    figures = {"scan_scan", "search_search", "words_continuation", "curve_scale_sweep", "curve_cross"}
    grids = {f"{kind}_{grid}" for grid in ("subset_sweep", "half_way")
             for kind in ("bars", "tradeoff", "strata", "survival", "placement", "phrases")}  # fmt: skip
    check_whole(phase2, tables, figures | grids)
