"""Plausible finished tables, built by the schemas. No number here was measured."""

from dataclasses import replace

import numpy as np
import pytest

from raybt.report import Results, render
from raybt.store.schemas import CONDITION_TABLE, CONTRAST_TABLE, EXAMPLE_TABLE
from tests.report import builders
from tests.report.builders import table


def condition(
    name,
    onset,
    accuracy,
    *,
    stage="sweep",
    variant="default",
    subset=None,
    scale=None,
    finding=None,
    because=None,
    **more,
):
    rates = {"onset_rate": onset, "relaxed_rate": onset, "accuracy_all": accuracy, "accuracy_answered": accuracy}
    row = {
        "stage": stage,
        "condition": name,
        "variant": variant,
        "role": "baseline" if name == "baseline" else "target",
        "subset": subset,
        "scale": scale,
        "positions": "decode",
        "n_sites": 0 if subset is None else 3,
        "planned": 96,
        "done": 96,
        "failed": 0,
        "missing": 0,
        "truncated": 2,
        "unparseable": 1,
        "correct": 80,
        "wrong": 13,
        "onsets": 40,
        "problems": 24,
        "chance_accuracy": 0.04,
        "answerable_rate": 0.97,
        "truncated_rate": 0.0208,
        "mean_tokens": 88.25,
        "repetition": 0.031,
        "compression": 0.412,
        "repetitive_rate": 0.01,
        "collapsed": because is not None,
        "collapsed_because": because,
        "finding": finding,
        "numerics": "cpu float32 sdpa torch 2.13",
    }
    for stem, rate in rates.items():
        row[stem] = rate
        for part, width in (("_wilson", 0.06), ("", 0.08)):
            row[f"{stem}{part}_low"] = None if rate is None else max(0.0, rate - width)
            row[f"{stem}{part}_high"] = None if rate is None else min(1.0, rate + width)
    return row | more


def contrast(row, baseline, measure, p=0.2, mixed=False):
    if row[measure] is None or baseline[measure] is None:
        difference = low = high = p = None
    else:
        difference = row[measure] - baseline[measure]
        low, high = difference - 0.09, difference + 0.09
    return {
        "stage": row["stage"],
        "condition": row["condition"],
        "variant": row["variant"],
        "measure": measure,
        "baseline": baseline[measure],
        "treated": row[measure],
        "difference": difference,
        "low": low,
        "high": high,
        "p": p,
        "p_holm": None if p is None else min(1.0, 4 * p),
        "pairs": row["done"],
        "pairs_lost": row["planned"] - row["done"],
        "problems": 24,
        "mixed_numerics": mixed,
    }


def example(name, baseline_text, treated_text, **more):
    part = next((i for i, (a, b) in enumerate(zip(baseline_text, treated_text, strict=False)) if a != b), None)
    row = {
        "stage": "sweep",
        "condition": name,
        "variant": "default",
        "problem": "train-7",
        "sample": 1,
        "gold": "42",
        "question": "Nora packs 6 crates of 7 pears. How many pears does she pack?",
        "part_token": None if part is None else 31,
    }
    for side, text in (("baseline", baseline_text), ("treated", treated_text)):
        at = text.find("Wait")
        row |= {
            f"{side}_text": text,
            f"{side}_verdict": "correct",
            f"{side}_answer": "42",
            f"{side}_part_start": part,
            f"{side}_part_end": None if part is None else part + 4,
            f"{side}_onsets": [] if at < 0 else [{"start": at, "end": at + 4}],
        }
    return row | more


MANIFEST = {
    "raybt": "0.1.0",
    "name": "demo",
    "model": {"name": "raybt-toy", "fingerprint": "sha256:5ad1c0ffee", "revision": None},
    "attempts": [
        {
            "started": "2026-03-01T10:00:00Z",
            "ended": "2026-03-01T10:00:40Z",
            "status": "interrupted",
            "address": "local",
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
            "versions": {"torch": "2.13.0", "ray": "2.60.0"},
            "hardware": {"host": "bench", "cpu": "Some CPU", "cores": 2, "memory_gb": 15.6, "gpus": []},
            "wall_seconds": 40.25,
            "rows": 400,
            "tokens": 35200,
            "tokens_per_second": 874.5,
            "replicas": 1,
        },
        {"started": "2026-03-01T10:02:00Z", "ended": "2026-03-01T10:02:52Z", "status": "complete"},
    ],
    "config_changes": [{"at": "2026-03-01T10:02:00Z", "differences": ["problems.limit: 20 -> 24"]}],
    "set_aside": [{"file": "completions/000003.parquet", "reason": "torn: no footer"}],
    "notes": ["Two conditions share their rows."],
}

CONFIG = {
    "name": "demo",
    "seed": 0,
    "model": {"name": "raybt-toy", "dtype": "float32"},
    "sampling": {"samples": 4, "temperature": 0.7},
    "interventions": {"subsets": {"late_mlp": ["mlp.5-7"]}},
}

BEFORE = "There are 6 crates of 7 pears.\n6 * 7 = 4"
EXAMPLE = example(
    "late_mlp@0", BEFORE + "8.\nWait, 6 * 7 = 42.\nFinal: 42", BEFORE + "2 pears.\nThat is all.\nFinal: 42"
)


def build(conditions, examples=(EXAMPLE,), manifest=MANIFEST, config=CONFIG, p=0.002, mixed=False):
    baselines = {(row["stage"], row["variant"]): row for row in conditions if row["condition"] == "baseline"}
    contrasts = [
        contrast(
            row,
            baselines[row["stage"], row["variant"]],
            measure,
            p if row["finding"] in ("lowers", "raises") else 0.2,
            mixed,
        )
        for row in conditions
        if row["condition"] != "baseline" and (row["stage"], row["variant"]) in baselines
        for measure in ("onset_rate", "accuracy_all", "mean_tokens")
    ]
    return Results(
        config,
        manifest,
        table(conditions, CONDITION_TABLE),
        table(contrasts, CONTRAST_TABLE),
        table(examples, EXAMPLE_TABLE),
    )


def sweep(stage="sweep", variant="default"):
    """A subset sweep at scale 0 and a scale sweep of one subset, with one of everything that can happen."""
    at = {"stage": stage, "variant": variant}
    return [
        condition("baseline", 0.432, 0.858, **at),
        condition("late_mlp@0", 0.214, 0.843, subset="late_mlp", scale=0.0, finding="lowers", **at),
        condition("late_mlp@0.5", 0.301, 0.851, subset="late_mlp", scale=0.5, finding="no evidence", **at),
        condition("late_mlp@0.9", 0.418, 0.862, subset="late_mlp", scale=0.9, finding="no evidence", **at),
        condition("early_attn@0", 0.021, 0.031, subset="early_attn", scale=0.0, because="accuracy at chance", **at),
        condition(
            "early_attn@0.5", 0.187, 0.452, subset="early_attn", scale=0.5, because="repetition in 31.2% of rows", **at
        ),
        condition("early_attn@0.9", 0.409, 0.811, subset="early_attn", scale=0.9, finding="no evidence", **at),
        condition("attn.3@0", 0.561, 0.839, subset="attn.3", scale=0.0, finding="raises", **at),
        condition(
            "mlp.2@0", None, None, subset="mlp.2", scale=0.0, finding="incomplete", done=0, missing=96, problems=0, **at
        ),
    ]


def controls_of(target, role, count=20, **more):
    """Random controls of a condition that do next to nothing; the third has collapsed."""
    return [
        condition(
            f"{target['subset']}.{role}{number:02d}@0",
            0.40 + 0.005 * number,
            0.84 + 0.002 * number,
            stage=target["stage"],
            variant=target["variant"],
            subset=f"{target['subset']}.{role}{number:02d}",
            scale=0.0,
            finding="control",
            because="accuracy at chance" if number == 3 else None,
            role=role,
            control_of=target["condition"],
            **more,
        )
        for number in range(1, count + 1)
    ]


def layered(layers=6, stage="layers", **more):
    """Each layer's attention and MLP alone: one matters, one breaks the model."""
    rows = [condition("baseline", 0.43, 0.86, stage=stage, **more)]
    for layer in range(layers):
        for kind in ("attn", "mlp"):
            name, broken = f"layers.{kind}.{layer}", (kind, layer) == ("attn", 0)
            onset, accuracy = (0.02, 0.03) if broken else (0.1, 0.85) if (kind, layer) == ("mlp", 3) else (0.42, 0.86)
            because = "accuracy at chance" if broken else None
            rows.append(
                condition(
                    f"{name}@0", onset, accuracy, stage=stage, subset=name, scale=0.0, n_sites=1,
                    finding="no evidence", because=because, **more,
                )
            )  # fmt: skip
    return rows


def topped(count=4, stage="best"):
    return [condition("baseline", 0.43, 0.86, stage=stage)] + [
        condition(
            f"best.top{n}@0", 0.43 - 0.06 * n, 0.86 - 0.01 * n, stage=stage, subset=f"best.top{n}", scale=0.0,
            n_sites=n, finding="no evidence",
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def searching():
    """What a search ran: stages of its own in the conditions table."""
    return [
        row
        for stage in ("search.rung1", "search.rung2", "search.rung3", "search.confirm")
        for row in (
            condition("baseline", 0.43, 0.86, stage=stage),
            condition("late@0", 0.13, 0.84, stage=stage, subset="late", scale=0.0, finding="lowers"),
        )
    ]


def studied_rows():
    rows = sweep()
    late = rows[1]
    controls = [*controls_of(late, "control"), *controls_of(late, "direction")]
    return [*rows, *controls, *layered(), *topped(), *searching()]


def build_study(conditions=None, confirmed=True, **instead):
    """A whole study; `instead` gives the rows of one of its tables, or None to leave it out."""
    config = CONFIG | {"stages": builders.GOAL}
    base = build(studied_rows() if conditions is None else conditions, config=config)
    return replace(base, study=builders.study(**instead), decisions=builders.decided(confirmed=confirmed))


@pytest.fixture
def make_study():
    return build_study


@pytest.fixture
def make_controls():
    return controls_of


@pytest.fixture
def make_layers():
    return layered


@pytest.fixture(scope="session")
def studied():
    return build_study()


@pytest.fixture(scope="session")
def study_files(studied):
    return render(studied)


@pytest.fixture
def make():
    return build


@pytest.fixture
def make_condition():
    return condition


@pytest.fixture
def make_example():
    return example


@pytest.fixture
def make_sweep():
    return sweep


@pytest.fixture(scope="session")
def results():
    return build(sweep(), mixed=True)


@pytest.fixture(scope="session")
def files(results):
    return render(results)


@pytest.fixture
def many(make):
    """56 conditions with long names and 7 subsets x 8 scales."""
    random = np.random.default_rng(0)
    rows = [condition("baseline", 0.43, 0.86)]
    for subset in range(7):
        for scale in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.25):
            name = f"layers_{subset}_to_{subset + 3}_mlp_and_attn"
            broken = "accuracy at chance" if subset == 3 and scale < 0.3 else None
            rows.append(
                condition(
                    f"{name}@{scale:g}",
                    float(random.uniform(0.05, 0.6)),
                    float(random.uniform(0.3, 0.9)),
                    subset=name,
                    scale=scale,
                    finding="no evidence",
                    because=broken,
                )
            )
    return make(rows)
