"""Plausible finished conditions, contrasts and pairs, built by the schemas. No number here was measured."""

from raybt.report import Results
from raybt.store.schemas import CONDITION_TABLE, CONTRAST_TABLE, EXAMPLE_TABLE
from tests.report.study_tables import table


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
