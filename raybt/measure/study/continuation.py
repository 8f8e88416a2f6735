"""What is written on from an onset's prefix: the same token, a trigger at once, a trigger at all."""

from math import nan

import pandas as pd
import pyarrow as pa

from raybt.config import BASELINE
from raybt.measure.onset import STRICT
from raybt.measure.statistics import clustered_rate, holm
from raybt.measure.study.clustered import as_table, interval, paired_rates
from raybt.store.schemas.study import CONTINUATION_TABLE

PAIR = ["event", "draw"]
RATES = ("same_token", "at_once", "backtracks")


def continuations_table(plan: pd.DataFrame, grades: pd.DataFrame, events: pd.DataFrame) -> pa.Table:
    """How often a condition's continuations backtrack, and the difference to those of the baseline.

    `same_token`: the first token is the event's own; `at_once`: a strict trigger starts there; `backtracks`: a strict
    trigger stands anywhere. The baseline's rates say how stable onsets are: how often they come back from the same
    prefix with fresh noise. The difference is of `backtracks`, paired by (event, draw), whose noise all conditions
    share; p is corrected (Holm) over the conditions of a stage.

    Args:
        plan: `MEASUREMENTS` rows of kind continuation.
        grades: of their keys: key, onset_strict, and first_token, the id written first. A row without is failed.
        events: `EVENTS` rows of these keys.

    Returns:
        `CONTINUATION_TABLE`, conditions as they first appear; `events` counts those planned.
    """
    at_once = events.loc[(events["tier"] == STRICT) & (events["token"] == 0), "key"]
    rows = plan.merge(grades[["key", "onset_strict", "first_token"]], how="left", on="key", validate="many_to_one")
    rows = rows.assign(
        is_done=rows["onset_strict"].notna(),
        same_token=rows["first_token"] == rows["target"],
        at_once=rows["key"].isin(at_once),
        backtracks=rows["onset_strict"].eq(True),
    )
    return as_table(
        [line for _, stage in rows.groupby("stage", sort=False) for line in _stage(stage)], CONTINUATION_TABLE
    )


def _stage(rows: pd.DataFrame) -> list[dict]:
    parts = dict(iter(rows.groupby("condition", sort=False)))
    baseline = rows.loc[(rows["condition"] == BASELINE) & rows["is_done"]]
    lines = [_line(part) | _difference(baseline, part.loc[part["is_done"]], name) for name, part in parts.items()]
    for line, p_holm in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = p_holm
    return lines


def _line(part: pd.DataFrame) -> dict:
    done = part.loc[part["is_done"]]
    counts = {
        "stage": part["stage"].iloc[0],
        "condition": part["condition"].iloc[0],
        "events": part["event"].nunique(),
        "planned": len(part),
        "done": len(done),
        "failed": len(part) - len(done),
        "problems": done["problem"].nunique(),
    }
    for name in RATES:
        counts |= interval(name, clustered_rate(done[name].to_numpy(), done["problem"].to_numpy()))
    return counts


def _difference(baseline: pd.DataFrame, done: pd.DataFrame, name: object) -> dict:
    if name == BASELINE:
        return {**interval("difference", (nan, nan, nan)), "p": nan}
    pairs = baseline.merge(done, on=PAIR, suffixes=("_base", ""), validate="one_to_one")
    estimate, p = paired_rates(pairs["backtracks_base"], pairs["backtracks"], pairs["problem"])
    return {**interval("difference", estimate), "p": p}
