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
        conditions = _with_pairs(family)
        for tier, phrases in tiers(triggers).items():
            for phrase in phrases:
                holding = holders.get((tier, phrase), set())
                lines += [_line(*one, holding) | {"tier": tier, "phrase": phrase} for one in conditions]
    return as_table(lines, PHRASE_TABLE)


def _with_pairs(family: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Of each condition its rows, and the same beside the baseline's; all phrases have them in common."""
    baseline = family.loc[family["condition"] == BASELINE, [*PAIR, "key"]]
    parts = (part for _, part in family.groupby("condition", sort=False))
    return [(part, baseline.merge(part[[*PAIR, "key"]], on=PAIR, suffixes=("_base", ""))) for part in parts]


def _line(part: pd.DataFrame, pairs: pd.DataFrame, holding: set[str]) -> dict:
    holds = part["key"].isin(holding)
    rate = clustered_rate(holds.to_numpy(), part["problem"].to_numpy())
    first = {name: part[name].iloc[0] for name in ("stage", "condition", "variant")}
    counts = {"done": len(part), "completions": int(holds.sum())}
    return {**first, **counts, **interval("rate", rate), **interval("difference", _difference(part, pairs, holding))}


def _difference(part: pd.DataFrame, pairs: pd.DataFrame, holding: set[str]) -> tuple[float, float, float]:
    if part["condition"].iloc[0] == BASELINE:
        return nan, nan, nan
    return paired_rates(pairs["key_base"].isin(holding), pairs["key"].isin(holding), pairs["problem"])[0]
