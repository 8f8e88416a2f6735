"""Studies that are not finished, or have next to nothing in them: every figure is drawn, without a warning."""

import warnings

import pytest

from raybt.report.figures import drawings
from raybt.store.schemas.study import STUDY_TABLES
from tests.report import study_tables


def nothing(rows, *stems):
    """The rows without their numbers, as where a stage has planned and done nothing."""
    gone = {f"{stem}{part}": None for stem in stems for part in ("", "_low", "_high")}
    return [row | gone | {"done": 0, "problems": 0} for row in rows]


EDGES = {
    "nothing done": {
        "lens": [{"stage": "lens", "role": "onset", "planned": 4, "done": 0, "failed": 4, "problems": 0}],
        "attribution": [],
        "scan": [{"stage": "scan", "planned": 4, "done": 0, "failed": 4, "controls": 0, "verdict": "incomplete"}],
        "steps": nothing(study_tables.steps(), "target_change", "trigger_change"),
        "words": [],
        "continuations": nothing(study_tables.continuations(), "same_token", "at_once", "backtracks", "difference"),
        "strata": nothing(study_tables.strata(), "accuracy"),
        "placement": [row | {"onsets": 0, "of": 0} for row in nothing(study_tables.placement(), "share")],
        "phrases": nothing(study_tables.phrases(), "rate", "difference"),
        "variants": nothing(study_tables.variants(), "onset_rate", "accuracy_all", "difference"),
        "controls": [row | {"effect": None, "p": None} for row in study_tables.controls()],
        "search": nothing(study_tables.search(), "onset_difference", "accuracy_difference"),
        "survival": [],
    },
    "one problem": {
        name: [{key: None if key.endswith(("_low", "_high")) else value for key, value in row.items()} for row in rows]
        for name, rows in {
            "lens": study_tables.lens(), "scan": study_tables.scan(heads=0), "phrases": study_tables.phrases(),
            "variants": study_tables.variants(), "search": study_tables.search(), "survival": study_tables.survival(),
        }.items()
    },
    "another operation, another role, one layer": {
        "scan": [row | {"operation": "resample"} for row in study_tables.scan(1, 1, ("zero",))],
        "lens": [row | {"role": "elsewhere"} for row in study_tables.lens(1)],
    },
    "no winner": {"search": study_tables.search("none")},
    "first rung only": {"search": [row for row in study_tables.search() if row["rung"] == 1]},
    "two variants": {
        "strata": study_tables.strata(variants=("default", "think")),
        "survival": study_tables.survival(variants=("default", "think"), tokens=(0, 60)),
    },
    "one variant": {"variants": study_tables.variants()[:1]},
}  # fmt: skip


@pytest.mark.parametrize("case", EDGES)
def test_edges_draw_without_warnings(make_study, make_condition, case):
    rows = [make_condition("baseline", 0.4, 0.8), make_condition("late_mlp@0", 0.2, 0.8, subset="late", scale=0.0)]
    others = dict.fromkeys(STUDY_TABLES)
    results = make_study(rows, confirmed=None, **others | EDGES[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawing in (one for found in drawings(results).values() for one in found):
            drawing.svg()
