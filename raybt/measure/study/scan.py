"""What each site does to the next token: effects at onsets, at controls, and what may be said of them."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from raybt.measure.statistics import ALPHA, holm
from raybt.measure.study.clustered import as_table, clustered_means, joined, with_planned
from raybt.measure.tables import FEWEST_PROBLEMS
from raybt.store.schemas.study import SCAN_TABLE

ONSET = "onset"  # the role; others are its controls
LEAST_AGREEMENT = 0.5  # of control events at which the likeliest token stays: below, the model is broken
SITE = ["stage", "intervention"]

_PLAN_COLUMNS = ["stage", "role", "condition", "intervention", "problem"]
_EVENT_COLUMNS = ["target_log_probability", "floor_mass"]
_EFFECT_COLUMNS = ["target_change", "trigger_mass", "kl", "kl_trigger", "agrees"]


def effects_of(plan: pd.DataFrame, scans: pa.Table) -> pd.DataFrame:
    """One row for each plan row and each effect that was measured there, words left out.

    Returns:
        The plan row's number among those done, `row`, and its stage, role, condition, intervention and problem; the
        event's numbers, its own trigger mass as `trigger_mass_baseline`; the effect's, its intervention as `measured`.
    """
    done, results = joined(plan, scans)
    lists = results["effects"].combine_chunks()
    parents = pc.list_parent_indices(lists).to_numpy()  # pyright: ignore
    effects = pc.list_flatten(lists)  # pyright: ignore
    columns = {name: done[name].to_numpy()[parents] for name in _PLAN_COLUMNS}
    columns |= {name: results[name].to_numpy()[parents] for name in _EVENT_COLUMNS}
    columns["trigger_mass_baseline"] = results["trigger_mass"].to_numpy()[parents]
    columns |= {name: effects.field(name).to_numpy(zero_copy_only=False) for name in _EFFECT_COLUMNS}
    measured = effects.field("intervention").dictionary_encode().to_pandas()
    return pd.DataFrame({"row": parents, **columns, "measured": measured})


def scan_table(plan: pd.DataFrame, scans: pa.Table) -> pa.Table:
    """Each site's effect on the next token, and a verdict on it.

    An event's effect is specific by so many nats: what the trigger set's mass loses or gains of the divergence
    (`kl_trigger`, counted negative where it gains), less what everything else moves. `control_*` are of controls, each
    of which follows its own token. `floor` is the largest difference of trigger mass that rounding made at the onsets
    used.

    Args:
        plan: `MEASUREMENTS` rows of kind scan. scans: `SCANS`, every effect an intervention on one site.

    Returns:
        `SCAN_TABLE`, by stage and operation, the most specific first. planned, done and failed count onsets. A stage
        with no onset done has one row without a site.
    """
    effects = effects_of(plan, scans).drop(columns="intervention").rename(columns={"measured": "intervention"})
    means = _at_onsets(effects.loc[effects["role"] == ONSET])
    means = means.merge(_at_controls(effects.loc[effects["role"] != ONSET]), how="left", on=SITE)
    means = means.merge(_sites(list(means["intervention"])), on="intervention")
    means["p_holm"] = means.groupby(["stage", "operation"])["p"].transform(holm)
    lines = with_planned(plan.loc[plan["role"] == ONSET], ["stage"], means)
    lines = lines.assign(controls=lines["controls"].fillna(0), verdict=_verdicts(lines))
    order = lines.sort_values(["stage", "operation", "specific"], ascending=[True, True, False], kind="stable")
    return as_table(order, SCAN_TABLE)


def _at_onsets(effects: pd.DataFrame) -> pd.DataFrame:
    change = effects["trigger_mass"] - effects["trigger_mass_baseline"]
    specific = specific_effect(change, effects["kl"], effects["kl_trigger"])
    effects = effects.assign(trigger_change=change, specific=specific)
    columns = ["target_change", "trigger_change", "kl", "kl_trigger", "specific"]
    means = clustered_means(effects, SITE, columns).rename(columns={"trigger_change_p": "p"})
    floor = effects.groupby(SITE, observed=True, as_index=False).agg(floor=("floor_mass", "max"))
    return means.merge(floor, on=SITE)


def specific_effect(trigger_change: pd.Series, kl: pd.Series, kl_trigger: pd.Series) -> pd.Series:
    """Nats with which the trigger set loses mass, less the nats with which everything else moves."""
    return np.where(trigger_change > 0, -1, 1) * kl_trigger - (kl - kl_trigger)


def _at_controls(effects: pd.DataFrame) -> pd.DataFrame:
    means = clustered_means(effects, SITE, ["target_change", "kl", "agrees"])
    changes = {f"target_change{part}": f"control_change{part}" for part in ("", "_low", "_high")}
    others = {"done": "controls", "kl": "control_kl", "agrees": "control_agreement"}
    return means.loc[:, [*SITE, *changes, *others]].rename(columns=changes | others)


def _sites(interventions: list[str]) -> pd.DataFrame:
    """Site and operation of interventions with one term; scaling by 0 is `zero`."""
    return pd.DataFrame(
        [{"intervention": text, **_site(*json.loads(text))} for text in dict.fromkeys(interventions)],
        columns=["intervention", "site", "kind", "layer", "head", "operation"],
    )


def _site(term: list) -> dict:
    site, operation, strength, *_ = term
    kind, layer, *head = site.split(".")
    removed = operation == "scale" and strength == 0
    return {
        "site": site,
        "kind": kind,
        "layer": int(layer),
        "head": int(head[0]) if head else None,
        "operation": "zero" if removed else operation,
    }


def _verdicts(lines: pd.DataFrame) -> np.ndarray:
    """The first that holds. What is nan has not been shown, so it never speaks for a site."""
    reasons = {
        "incomplete": lines["problems"] < FEWEST_PROBLEMS,
        "breaks the model": lines["control_agreement"] < LEAST_AGREEMENT,
        "under the noise floor": lines["trigger_change"].abs() <= lines["floor"],
        "no evidence": ~(lines["p_holm"] < ALPHA),
        "raises": lines["trigger_change"] > 0,
        "not specific": ~(lines["specific_low"] > 0),
    }
    return np.select(list(reasons.values()), list(reasons), "qualifies")
