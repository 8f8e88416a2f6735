"""When onsets come: the share of completions still without one after so many tokens, and where onsets fall."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
from statsmodels.duration.survfunc import SurvfuncRight

from raybt.measure.statistics import clustered_rate, effective_size, wilson
from raybt.measure.study.clustered import as_table, interval
from raybt.store.schemas.study import PLACEMENT_TABLE, SURVIVAL_TABLE

PLACE = ["stage", "condition", "variant"]
POINTS = 60  # tokens at which a curve is given, at most
BINS = 10  # parts of a completion


def survival_table(rows: pd.DataFrame) -> pa.Table:
    """Share of completions without a strict onset among their first `token` tokens (Kaplan & Meier 1958).

    A completion that ends without an onset is censored there. Problems are the clusters: the variance is the jackknife
    over problems, and the interval is Wilson's at the effective sample size, as in `statistics.clustered_rate`, with
    Greenwood's variance as that of independent completions (Rothman 1978). With `triggers.priority` at `listed` the
    onset need not be the earliest match.

    Args:
        rows: as for `tables.summarise`, of any number of stages and variants. Rows that are not done are left out.

    Returns:
        `SURVIVAL_TABLE`, up to a condition's last onset or end. `at_risk` counts completions that have a token of that
        number and no onset before it, `onsets` those with one up to it.
    """
    done = rows.loc[rows["verdict"].notna()]
    time = done["n_tokens"].where(~done["onset_strict"].astype(bool), done["onset_token"] + 1)
    done = done.assign(time=time.astype(int), onset=done["onset_strict"].astype(bool))
    lines = []
    for _, family in done.groupby(["stage", "variant"], sort=False):
        tokens = np.unique(np.linspace(0, family["n_tokens"].max(), POINTS).round().astype(int))
        for place, part in family.groupby(PLACE, sort=False):
            lines += [dict(zip(PLACE, place, strict=True)) | line for line in _curve(part, tokens)]
    return as_table(lines, SURVIVAL_TABLE)


def _curve(part: pd.DataFrame, tokens: np.ndarray) -> Iterator[dict]:
    time, onset = part["time"].to_numpy(), part["onset"].to_numpy()
    problem = part["problem"].factorize()[0]
    tokens = tokens[tokens <= time.max()]
    shares, errors = _survival(time, onset, tokens)
    clustered = _jackknife(time, onset, problem, tokens)
    for token, share, error, variance in zip(tokens, shares, errors, clustered, strict=True):
        counts = {"at_risk": int((time >= token).sum()), "onsets": int((onset & (time <= token)).sum())}
        size = _size(share, error**2, variance, problem.max() + 1)
        yield {"token": token, **counts, **interval("survival", (share, *wilson(share * size, size)))}


def _survival(time: np.ndarray, onset: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kaplan-Meier estimate and Greenwood's standard error after each of these tokens; 1 and 0 before any onset."""
    curve = SurvfuncRight(time, onset)
    last = np.searchsorted(curve.surv_times, tokens, side="right")  # onset times up to each token
    return np.r_[1.0, curve.surv_prob][last], np.r_[0.0, curve.surv_prob_se][last]


def _jackknife(time: np.ndarray, onset: np.ndarray, problem: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Variance of the survival after each token, from leaving out one problem at a time; 0 for a single problem."""
    count = problem.max() + 1
    kept = [problem != one for one in range(count)] if count > 1 else []
    without = [_survival(time[keep], onset[keep], tokens)[0] for keep in kept] or [np.zeros(len(tokens))]
    return (count - 1) * np.var(without, axis=0)


def _size(share: float, independent: float, clustered: float, problems: int) -> float:
    """Independent completions that these are worth; where that cannot be estimated each problem is one."""
    if problems < 2 or share in (0, 1):
        return problems
    return effective_size(share * (1 - share) / independent, clustered / independent, problems)


def placement_table(rows: pd.DataFrame) -> pa.Table:
    """Where along its completion the onset falls: `onset_token / n_tokens` in ten bins, the upper end excluded.

    Args:
        rows: as for `survival_table`; only strict onsets count.

    Returns:
        `PLACEMENT_TABLE`, ten rows a condition: `onsets` of all its onsets, `of`; `share` is nan where it has none.
    """
    done = rows.loc[rows["verdict"].notna()]
    lines = []
    for place, part in done.groupby(PLACE, sort=False):
        onsets = part.loc[part["onset_strict"].astype(bool)]
        lines += [dict(zip(PLACE, place, strict=True)) | line for line in _bins(onsets)]
    return as_table(lines, PLACEMENT_TABLE)


def _bins(onsets: pd.DataFrame) -> Iterator[dict]:
    bins = BINS * onsets["onset_token"].astype(int) // onsets["n_tokens"].astype(int)
    for number in range(BINS):
        here = (bins == number).to_numpy()
        share = interval("share", clustered_rate(here, onsets["problem"].to_numpy()))
        yield {"start": number / BINS, "end": (number + 1) / BINS, "onsets": here.sum(), "of": len(here), **share}
