"""The baseline under each prompt variant, with the band that sampling noise alone would give."""

from math import nan, sqrt

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import norm

from raybt.config import BASELINE
from raybt.measure.statistics import ALPHA, clustered_rate, holm
from raybt.measure.study.clustered import as_table, interval, paired_rates
from raybt.store.schemas.study import VARIANT_TABLE

PAIR = ["problem", "sample"]


def variants_table(rows: pd.DataFrame) -> pa.Table:
    """Onset rate and accuracy of the baseline by prompt variant, and its onset rate's difference to the first variant.

    The band is where a variant's onset rate would lie 95 times in 100 if the wording made no difference and only the
    sampling of completions did: pooled rate +- 1.96 sqrt(s^2 (1/n - 1/N)). n are the variant's completions, N those of
    all variants; s^2 is the variance of completions of one problem under one variant, k/(k-1) r(1-r) for rate r of k
    samples, averaged over such cells by k. Which problems there are is no part of it: all variants have the same.

    Args:
        rows: as for `tables.summarise`, of any number of stages and variants; what is not the baseline is left out,
            and of stages that share a baseline one is counted.

    Returns:
        `VARIANT_TABLE`, variants as they first appear. failed are rows that failed or are missing. No band where there
        is one variant, or one sample of each problem. p is corrected (Holm) over the variants.
    """
    rows = rows.loc[rows["condition"] == BASELINE].drop_duplicates(["variant", *PAIR])
    rows = rows.assign(is_done=rows["verdict"].notna(), is_correct=rows["verdict"] == "correct")
    parts = {str(name): part for name, part in rows.groupby("variant", sort=False)}
    done = {name: part.loc[part["is_done"]].astype({"onset_strict": float}) for name, part in parts.items()}
    reference = next(iter(parts), "")
    lines = [_line(name, part, done[name]) | _band(done[name], done) for name, part in parts.items()]
    for line, part in zip(lines, done.values(), strict=True):
        line |= {"reference": reference, **_difference(done[reference], part)}
    for line, p_holm in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = p_holm
    return as_table(lines, VARIANT_TABLE)


def _line(name: str, part: pd.DataFrame, done: pd.DataFrame) -> dict:
    problems = done["problem"].to_numpy()
    return {
        "variant": name,
        "planned": len(part),
        "done": len(done),
        "failed": len(part) - len(done),
        "problems": done["problem"].nunique(),
        **interval("onset_rate", clustered_rate(done["onset_strict"].to_numpy(), problems)),
        **interval("accuracy_all", clustered_rate(done["is_correct"].to_numpy(), problems)),
    }


def _band(done: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> dict[str, float]:
    everything = pd.concat(parts.values())
    n, total = len(done), len(everything)
    if len(parts) < 2 or n == 0:
        return {"band_low": nan, "band_high": nan}
    pooled = float(everything["onset_strict"].mean())
    reach = norm.ppf(1 - ALPHA / 2) * sqrt(_variance(everything) * (1 / n - 1 / total))
    low, high = np.clip([pooled - reach, pooled + reach], 0, 1)
    return {"band_low": low, "band_high": high}


def _variance(done: pd.DataFrame) -> float:
    """Variance of the onset among completions of one problem under one variant; nan where no cell has two."""
    cells = done.groupby(["variant", "problem"])["onset_strict"].agg(["var", "size"]).dropna()
    return float(np.average(cells["var"], weights=cells["size"])) if len(cells) else nan


def _difference(reference: pd.DataFrame, done: pd.DataFrame) -> dict:
    if done is reference:
        return {**interval("difference", (nan, nan, nan)), "p": nan}
    pairs = reference.merge(done, on=PAIR, suffixes=("_base", ""))
    estimate, p = paired_rates(pairs["onset_strict_base"], pairs["onset_strict"], pairs["problem"])
    return {**interval("difference", estimate), "p": p}
