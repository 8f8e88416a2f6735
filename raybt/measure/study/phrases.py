"""Which phrases a condition's completions hold: whether what one trigger loses another wins."""

from math import nan

import pandas as pd
import pyarrow as pa

from raybt.config import BASELINE, Triggers
from raybt.measure.onset import tiers
from raybt.measure.statistics import clustered_rate
from raybt.measure.study.clustered import as_table, interval, paired_rates
from raybt.store.schemas.study import PHRASE_TABLE

PAIR = ["problem", "sample"]


def phrases_table(rows: pd.DataFrame, events: pd.DataFrame, triggers: Triggers) -> pa.Table:
    """Share of completions that hold each trigger and each watched word, and its difference to the baseline's.

    Args:
        rows: plan rows with verdict (null where not done), of any number of stages and variants, each with its
            baseline.
        events: `EVENTS` rows of these keys.

    Returns:
        `PHRASE_TABLE`, one row a condition and phrase, in the config's order, also of phrases that never occur.
        `completions` counts those that hold it. The difference is paired by (problem, sample).
    """
    done = rows.loc[rows["verdict"].notna()]
    holders = events.groupby(["tier", "phrase"])["key"].agg(set).to_dict()
    lines = []
    for _, family in done.groupby(["stage", "variant"], sort=False):
        for tier, phrases in tiers(triggers).items():
            for phrase in phrases:
                held = family.assign(holds=family["key"].isin(holders.get((tier, phrase), set())))
                lines += [line | {"tier": tier, "phrase": phrase} for line in _lines(held)]
    return as_table(lines, PHRASE_TABLE)


def _lines(family: pd.DataFrame) -> list[dict]:
    baseline = family.loc[family["condition"] == BASELINE]
    return [_line(part) | _difference(baseline, part) for _, part in family.groupby("condition", sort=False)]


def _line(part: pd.DataFrame) -> dict:
    rate = clustered_rate(part["holds"].to_numpy(), part["problem"].to_numpy())
    first = {name: part[name].iloc[0] for name in ("stage", "condition", "variant")}
    return {**first, "done": len(part), "completions": int(part["holds"].sum()), **interval("rate", rate)}


def _difference(baseline: pd.DataFrame, part: pd.DataFrame) -> dict:
    if part["condition"].iloc[0] == BASELINE:
        return interval("difference", (nan, nan, nan))
    pairs = baseline.merge(part, on=PAIR, suffixes=("_base", ""))
    return interval("difference", paired_rates(pairs["holds_base"], pairs["holds"], pairs["problem"])[0])
