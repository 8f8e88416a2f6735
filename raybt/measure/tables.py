"""One stage and variant of a run as two tables: each condition by itself, and each against the baseline."""

from math import nan

import numpy as np
import pandas as pd
import pyarrow as pa

from raybt.config import BASELINE
from raybt.measure.collapse import Collapse
from raybt.measure.statistics import ALPHA, clustered_rate, holm, paired_difference, wilson
from raybt.store.schemas import CONDITION_TABLE, CONTRAST_TABLE

CONTROLS = ("control", "direction")  # roles of conditions that a target is compared with
FEWEST_PROBLEMS = 2  # below that nothing is known about the spread between problems
PLACE = ["condition", "problem", "sample"]
IDENTITY = (
    *("stage", "condition", "variant", "role", "control_of"),
    *("subset", "operation", "vectors", "scale", "positions", "n_sites"),
)
VERDICTS = ("truncated", "unparseable", "correct", "wrong")
MEASURES = {
    "onset_rate": "onset_strict",
    "relaxed_rate": "onset_relaxed",
    "accuracy_all": "is_correct",
    "mean_tokens": "n_tokens",
}


def summarise(rows: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """Tables of one family of conditions: those of one stage and one prompt variant.

    A row is done if it has a verdict, failed if it has an error and no verdict, missing otherwise. Rates are over
    done rows, `accuracy_answered` over those with a verdict of correct or wrong, which `answerable_rate` counts over
    done.

    Contrasts are treated - baseline over the (problem, sample) pairs that are done on both sides, so their `baseline`
    and `treated` are means over these pairs; P-values are corrected (Holm) over the conditions of the family, measure
    by measure. Conditions whose role is control or direction are no part of that family: what they show is read
    against their target. They keep their p and have no p_holm.

    Args:
        rows: plan rows (stage, condition, variant, problem, sample, key) with the condition's columns (role,
            control_of, subset, operation, vectors, scale, positions, n_sites), the `GRADES` columns, `numerics` and
            `error`; null where a row has none.

    Returns:
        `CONDITION_TABLE`, baseline first and the others as they first appear, and `CONTRAST_TABLE`, one row a
        condition and measure.

    Raises:
        ValueError: more than one stage or variant, no baseline, or a (condition, problem, sample) that stands there
        twice.
    """
    _check(rows)
    rows = rows.assign(is_correct=rows["verdict"] == "correct", is_done=rows["verdict"].notna())
    parts = {str(name): part for name, part in rows.groupby("condition", sort=False)}
    baseline = parts.pop(BASELINE)
    contrasts = _contrasts(baseline, parts)
    lines = _condition_lines({BASELINE: baseline, **parts}, contrasts)
    return pa.Table.from_pylist(lines, CONDITION_TABLE), pa.Table.from_pylist(contrasts, CONTRAST_TABLE)


def _check(rows: pd.DataFrame) -> None:
    for column in ("stage", "variant"):
        if rows[column].nunique() != 1:
            raise ValueError(f"a family has one {column}, got {sorted(rows[column].unique())}")
    if BASELINE not in set(rows["condition"]):
        raise ValueError(f"a family needs its {BASELINE}, got {sorted(rows['condition'].unique())}")
    twice = rows.duplicated(PLACE)
    if twice.any():
        raise ValueError(f"a row stands in the plan twice: {rows[twice].iloc[0][PLACE].to_dict()}")


def _contrasts(baseline: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> list[dict]:
    lines = [line for name, part in parts.items() for line in _contrast_lines(name, baseline, part)]
    controls = {name for name, part in parts.items() if _identity(part)["role"] in CONTROLS}
    for measure in MEASURES:
        family = [line for line in lines if line["measure"] == measure and line["condition"] not in controls]
        for line, p_holm in zip(family, holm([line["p"] for line in family]), strict=True):
            line["p_holm"] = float(p_holm)
    return lines


def _contrast_lines(name: str, baseline: pd.DataFrame, part: pd.DataFrame) -> list[dict]:
    pairs = baseline.merge(part, "outer", on=["problem", "sample"], suffixes=("_base", "_treated"))
    both = pairs.query("is_done_base == True and is_done_treated == True")  # null where one side is not planned
    shared = {
        "stage": baseline["stage"].iloc[0],
        "condition": name,
        "variant": baseline["variant"].iloc[0],
        "pairs": len(both),
        "pairs_lost": len(pairs) - len(both),
        "problems": both["problem"].nunique(),
        "mixed_numerics": len({*both["numerics_base"].dropna(), *both["numerics_treated"].dropna()}) > 1,
    }
    return [
        shared | {"measure": measure, "p_holm": nan} | _difference(both, column) for measure, column in MEASURES.items()
    ]


def _difference(both: pd.DataFrame, column: str) -> dict:
    base, treated = (both[f"{column}_{side}"].to_numpy(dtype=float) for side in ("base", "treated"))
    difference, low, high, p = paired_difference(base, treated, both["problem"].to_numpy())
    if column != MEASURES["mean_tokens"]:
        low, high = np.clip([low, high], -1.0, 1.0)  # two rates cannot differ by more; nan stays nan
    means = {"baseline": base.mean(), "treated": treated.mean()} if len(both) else {"baseline": nan, "treated": nan}
    return means | {"difference": difference, "low": low, "high": high, "p": p}


def _condition_lines(parts: dict[str, pd.DataFrame], contrasts: list[dict]) -> list[dict]:
    onset = {line["condition"]: line for line in contrasts if line["measure"] == "onset_rate"}
    done_of = {name: part.query("is_done") for name, part in parts.items()}
    collapse = Collapse(done_of[BASELINE])
    lines = []
    for name, part in parts.items():
        line = _identity(part) | _counts(part) | _rates(done_of[name]) | _texture(done_of[name])
        line |= collapse.of(done_of[name], line, is_baseline=name == BASELINE)
        lines.append(line | {"finding": _finding(line, onset.get(name))})
    return lines


def _identity(part: pd.DataFrame) -> dict:
    first = part.iloc[0]
    return {name: None if pd.isna(first.get(name)) else first[name] for name in IDENTITY}


def _counts(part: pd.DataFrame) -> dict:
    done = int(part["is_done"].sum())
    failed = int((~part["is_done"] & part["error"].notna()).sum())
    return {
        "planned": len(part),
        "done": done,
        "failed": failed,
        "missing": len(part) - done - failed,
        **{verdict: int((part["verdict"] == verdict).sum()) for verdict in VERDICTS},
        "onsets": int(part.loc[part["is_done"], "onset_strict"].sum()),
        "problems": part.loc[part["is_done"], "problem"].nunique(),
    }


def _rates(done: pd.DataFrame) -> dict:
    answered = done.query("verdict in ['correct', 'wrong']")
    return {
        **_rate("onset_rate", done, "onset_strict"),
        **_rate("relaxed_rate", done, "onset_relaxed"),
        **_rate("accuracy_all", done, "is_correct"),
        **_rate("accuracy_answered", answered, "is_correct"),
        "answerable_rate": len(answered) / len(done) if len(done) else nan,
    }


def _rate(stem: str, rows: pd.DataFrame, column: str) -> dict:
    values = rows[column].to_numpy(dtype=float)
    rate, low, high = clustered_rate(values, rows["problem"].to_numpy())
    wilson_low, wilson_high = wilson(values.sum(), len(values))
    parts = {"": rate, "_wilson_low": wilson_low, "_wilson_high": wilson_high, "_low": low, "_high": high}
    return {f"{stem}{part}": value for part, value in parts.items()}


def _texture(done: pd.DataFrame) -> dict:
    return {
        "chance_accuracy": float(done["chance"].mean()),
        "mean_tokens": float(done["n_tokens"].mean()),
        "repetition": float(done["repetition"].mean()),
        "compression": float(done["compression"].mean()),
        "truncated_rate": float((done["verdict"] == "truncated").mean()),
        "numerics": "; ".join(sorted(done["numerics"].dropna().unique())) or None,
    }


def _finding(line: dict, contrast: dict | None) -> str:
    """What may be said of the onset rate; nothing is said of a collapsed condition."""
    if contrast is None:
        return "baseline"
    if line["role"] in CONTROLS:
        return "control"
    if contrast["problems"] < FEWEST_PROBLEMS:
        return "incomplete"
    if line["collapsed"]:
        return "collapsed"
    if contrast["p_holm"] < ALPHA:
        return "raises" if contrast["difference"] > 0 else "lowers"
    return "no evidence"
