"""Plausible finished study tables, built by the schemas. No number here was measured; the planted truth is `mlp.3`."""

import math

import numpy as np

from raybt.store.schemas.study import DECISIONS, STUDY_TABLES
from tests.report.estimates import around, share, table
from tests.report.search_rows import decisions, search

PLANTED, BROKEN, QUIET = "mlp.3", "attn.0", "attn.1"


def lens(layers=6):
    """The onset's token comes up late, its controls' tokens hardly."""
    counts = {"stage": "lens", "planned": 40, "done": 38, "failed": 2, "problems": 17}
    slope = {"onset": 1.0, "position": 0.35, "context": 0.5}
    rows = []
    for role, steep in slope.items():
        for place in range(2 * layers):
            layer, kind = place // 2, ("attn", "mlp")[place % 2]
            depth = (place + 1) / (2 * layers)
            rows.append(
                counts
                | {"role": role, "place": f"{kind}.{layer}", "component": kind, "layer": layer}
                | around("logit", 9 * steep * depth**2, 1.2)
                | around("log_probability", -9 + 8.5 * steep * depth**2, 0.6)
                | {"rank": 600 * (1 - steep * depth**2) ** 3}
            )
    return rows


def attribution(layers=6):
    counts = {"stage": "lens", "done": 38, "problems": 17}
    rows = []
    for role, size in {"onset": 1.0, "position": 0.2, "context": 0.3}.items():
        rows.append(
            counts
            | {"role": role, "component": "embedding", "kind": "embedding"}
            | around("attribution", 0.4 * size, 0.2)
        )
        for place in range(2 * layers):
            layer, kind = place // 2, ("attn", "mlp")[place % 2]
            value = size * (4.2 if f"{kind}.{layer}" == PLANTED else 0.3 * math.sin(place))
            rows.append(
                counts
                | {"role": role, "component": f"{kind}.{layer}", "kind": kind, "layer": layer}
                | around("attribution", value, 0.5)
            )
    return rows


def scan(layers=6, heads=4, operations=("zero", "mean")):
    """`mlp.3` qualifies, the first attention breaks the model, the second stays under the floor."""
    random = np.random.default_rng(1)
    sites = [(f"{kind}.{layer}", kind, layer, None) for layer in range(layers) for kind in ("attn", "mlp")]
    sites += [(f"head.{layer}.{head}", "head", layer, head) for layer in range(layers) for head in range(heads)]
    return [_site(*site, operation, random) for operation in operations for site in sites]


def _site(site, kind, layer, head, operation, random):
    verdict, specific, trigger, agreement = "no evidence", float(random.normal(0, 0.02)), -0.01, 0.97
    if site in (PLANTED, "head.3.1"):
        verdict, specific, trigger = "qualifies", 0.61, -0.24
    elif site == BROKEN:
        verdict, specific, trigger, agreement = "breaks the model", -3.4, -0.29, 0.12
    elif site == QUIET:
        verdict, specific, trigger = "under the noise floor", 0.0001, -0.00001
    elif site == "attn.4":
        verdict, specific, trigger = "not specific", -0.21, -0.11
    elif site == "mlp.1":
        verdict, specific, trigger = "raises", -0.33, 0.14
    return (
        {"stage": "scan", "site": site, "kind": kind, "layer": layer, "head": head, "operation": operation}
        | {"planned": 40, "done": 40, "failed": 0, "controls": 80, "problems": 18}
        | around("target_change", 4 * trigger, 0.2)
        | around("trigger_change", trigger, 0.02)
        | {"p": 0.0004 if verdict == "qualifies" else 0.2, "p_holm": 0.005 if verdict == "qualifies" else 1.0}
        | {"kl": abs(specific) + 0.02, "kl_trigger": abs(specific)}
        | around("specific", specific, 0.1)
        | around("control_change", 0.001, 0.002)
        | {"control_kl": 0.01, "control_agreement": agreement, "floor": 0.0002, "verdict": verdict}
    )


def steps(conditions=("top@0", "top@0.5", "top@1")):
    return [
        {"stage": "continuation", "condition": name, "intervention": f'[["mlp.3","scale",{0.5 * place}]]'}
        | {"planned": 40, "done": 39, "failed": 1, "problems": 17}
        | {"target_probability_baseline": 0.41, "target_probability": 0.41 * (0.1 + 0.45 * place)}
        | {"trigger_mass_baseline": 0.46, "trigger_mass": 0.46 * (0.1 + 0.45 * place)}
        | around("target_change", 0.41 * (0.45 * place - 0.9), 0.04)
        | around("trigger_change", 0.46 * (0.45 * place - 0.9), 0.04)
        | {"p": 0.0002 + 0.4 * place, "p_holm": min(1.0, 0.0006 + 0.4 * place), "kl": 0.6 - 0.3 * place, "floor": 1e-6}
        for place, name in enumerate(conditions)
    ]


WORDS = {
    "But": (0.06, 0.21),
    "Hmm": (0.03, 0.05),
    "So": (0.11, 0.19),
    "(trigger set)": (0.46, 0.06),
    "(everything else)": (0.34, 0.45),
}


def words(conditions=("top@0", "top@0.5")):
    return [
        {"stage": "continuation", "condition": name, "word": word, "done": 39, "problems": 17}
        | {"mass_baseline": before, "mass": after}
        | around("change", (after - before) / (1 + place), 0.03)
        for place, name in enumerate(conditions)
        for word, (before, after) in WORDS.items()
    ]


def continuations():
    rows = []
    for name, again, difference in (("baseline", 0.62, 0.0), ("top@0", 0.14, -0.48), ("top@0.5", 0.37, -0.25)):
        rows.append(
            {"stage": "continuation", "condition": name, "events": 40, "planned": 320, "done": 318, "failed": 2}
            | {"problems": 17}
            | share("same_token", 0.9 * again)
            | share("at_once", 0.95 * again)
            | share("backtracks", again)
            | (around("difference", difference, 0.08) | {"p": 0.001, "p_holm": 0.002} if difference else {})
        )
    return rows


def controls(stage="sweep", condition="late_mlp@0", p=0.048, as_extreme=0, count=20, against="subsets", effect=-0.218):
    return [
        {"stage": stage, "condition": condition, "variant": "default", "measure": measure, "against": against}
        | {"effect": effect if measure == "onset_rate" else -0.015, "controls": count, "as_extreme": as_extreme}
        | {"p": p if measure == "onset_rate" else 0.57, "p_floor": 1 / (1 + count)}
        | {"mean": -0.02, "lowest": -0.09, "highest": 0.05, "overlap": 0.15 if against == "subsets" else 1.0}
        for measure in ("onset_rate", "accuracy_all")
    ]


def strata(conditions=("baseline", "late_mlp@0", "late_mlp@0.5"), variants=("default",)):
    place = {"stage": "sweep", "done": 41, "problems": 22}
    rows = []
    for variant in variants:
        for step, name in enumerate(conditions):
            here = place | {"variant": variant, "condition": name}
            for basis in ("all", "answered", "by problem"):
                right = 0.72 + 0.05 * (basis == "answered") - 0.03 * step
                rows.append(here | {"basis": basis, "stratum": "with"} | share("accuracy", right, 0.09))
                better = share("accuracy", right + 0.1, 0.08)
                rows.append(here | {"basis": basis, "stratum": "without", "done": 55} | better)
            apart = around("accuracy", -0.1 + 0.02 * step, 0.06)
            rows.append(here | {"basis": "by problem", "stratum": "difference", "done": 96, "problems": 19} | apart)
    return rows


HAZARDS = {"baseline": 0.006, "late_mlp@0": 0.0025, "late_mlp@0.5": 0.004, "attn.3@0": 0.008}


def survival(hazards=None, variants=("default",), tokens=range(0, 161, 8)):
    return [
        {
            "stage": "sweep",
            "condition": name,
            "variant": variant,
            "token": token,
            "at_risk": 96 - token // 4,
            "onsets": 3,
        }
        | share("survival", math.exp(-rate * token), 0.07 * (token > 0))
        for variant in variants
        for name, rate in (hazards or HAZARDS).items()
        for token in tokens
    ]


def placement(conditions=tuple(HAZARDS), bins=10):
    shape = np.exp(-((np.arange(bins) - 5.5) ** 2) / 8)
    return [
        {"stage": "sweep", "condition": name, "variant": "default", "start": i / bins, "end": (i + 1) / bins}
        | {"onsets": int(60 * shape[(i + 2 * place) % bins] / shape.sum()), "of": 60}
        | share("share", float(shape[(i + 2 * place) % bins] / shape.sum()), 0.06)
        for place, name in enumerate(conditions)
        for i in range(bins)
    ]


PHRASES = {
    "Wait": ("strict", 0.31),
    "Actually": ("strict", 0.08),
    "Hold on": ("strict", 0.02),
    "mistake": ("relaxed", 0.05),
    "But": ("alternative", 0.12),
}


def phrases(conditions=tuple(HAZARDS)):
    return [
        {"stage": "sweep", "condition": name, "variant": "default", "tier": tier, "phrase": phrase, "done": 96}
        | {"completions": int(96 * rate)}
        | share("rate", rate * 0.7**place, 0.04)
        | (around("difference", rate * (0.7**place - 1), 0.04) if place else {})
        for place, name in enumerate(conditions)
        for phrase, (tier, rate) in PHRASES.items()
    ]


def variants():
    rates = {"default": (0.432, 0.858), "think": (0.451, 0.842), "none": (0.211, 0.790)}
    rows = []
    for name, (onset, accuracy) in rates.items():
        apart = name != "default"
        difference = onset - rates["default"][0]
        rows.append(
            {"variant": name, "planned": 96, "done": 96, "failed": 0, "problems": 24, "reference": "default"}
            | share("onset_rate", onset)
            | share("accuracy_all", accuracy)
            | {"band_low": 0.31, "band_high": 0.42}
            | (around("difference", difference, 0.07) if apart else {})
            | ({"p": 0.51, "p_holm": 0.51} if name == "think" else {"p": 0.0004, "p_holm": 0.0008} if apart else {})
        )
    return rows


def study(**instead):
    """Every study table as a frame; `instead` gives rows of one under its name, None leaves it out."""
    rows = {
        "lens": lens(),
        "attribution": attribution(),
        "scan": scan(),
        "steps": steps(),
        "words": words(),
        "continuations": continuations(),
        "controls": controls(),
        "strata": strata(),
        "survival": survival(),
        "placement": placement(),
        "phrases": phrases(),
        "variants": variants(),
        "search": search(),
    } | instead
    return {name: table(rows[name], STUDY_TABLES[name]) for name in STUDY_TABLES if rows[name] is not None}


def decided(**more):
    return table(decisions(**more), DECISIONS)
