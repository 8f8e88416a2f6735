"""Intervals and tests for samples that come several to a problem. The problem is the cluster everywhere."""

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import numpy as np
from scipy.stats import t
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

ALPHA = 0.05  # all intervals are 95%
_ROUNDING = 1e-12  # effects this close are equal
NO_SPREAD = 1e-12  # a standard error below this is rounding


def wilson(k: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (1927) for k of n independent trials; nan for n = 0. Neither needs to be whole."""
    if n == 0:
        return nan, nan
    low, high = np.clip(proportion_confint(k, n, alpha=ALPHA, method="wilson"), 0, 1)  # pyright: ignore
    return min(float(low), k / n), max(float(high), k / n)  # k = n may give a bound just under 1


def clustered_rate(values: Sequence[bool] | np.ndarray, clusters: Sequence | np.ndarray) -> tuple[float, float, float]:
    """A rate and its interval where values of one cluster may be alike: Wilson's interval at the effective sample size.

    n is divided by the design effect, the cluster-robust variance over that of independent values, and then scaled by
    (t with n - 1 / t with clusters - 1 degrees of freedom)^2 for the few clusters that the variance comes from. The
    design effect is at least 1: luck must not make clusters better than independent values. Where the rate is 0 or 1,
    or there is one cluster, nothing can be estimated and each cluster counts as one value, the most cautious choice.

    Sources: Korn & Graubard 1998 (effective size and its t correction); Dean & Pagano 2015 (Wilson's interval does
    best with it).

    Args:
        values: 0 or 1, [values].
        clusters: labels, [values].

    Returns:
        rate, low, high; nan for no values.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return nan, nan, nan
    rate = float(values.mean())
    size = _effective_size(values, _codes(clusters))
    return rate, *wilson(rate * size, size)


def paired_difference(
    baseline: Sequence[float] | np.ndarray, treated: Sequence[float] | np.ndarray, clusters: Sequence | np.ndarray
) -> tuple[float, float, float, float]:
    """Mean of treated - baseline over pairs, with a cluster-robust t interval and p-value (df: clusters - 1).

    Where the spread cannot be estimated there is no interval: low and high are nan, never a width of zero. With one
    cluster p is nan. If all clusters show one same difference, p is 1 for no difference, else that of the sign-flip
    test, 2^(1 - clusters).

    Args:
        baseline, treated: one value a pair, [pairs]. clusters: the pair's cluster, [pairs].

    Returns:
        difference, low, high, p; all nan for no pairs.
    """
    differences = np.asarray(treated, dtype=float) - np.asarray(baseline, dtype=float)
    if len(differences) == 0:
        return nan, nan, nan, nan
    codes = _codes(clusters)
    mean, count = float(differences.mean()), int(codes.max()) + 1
    if count < 2:
        return mean, nan, nan, nan
    error = _standard_error(differences, codes)
    if error < NO_SPREAD:
        return mean, nan, nan, 1.0 if abs(mean) < NO_SPREAD else 2.0 ** (1 - count)
    reach = float(t.ppf(1 - ALPHA / 2, count - 1)) * error
    return mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, count - 1))


def clustered_mean(values: Sequence[float] | np.ndarray, clusters: Sequence | np.ndarray) -> tuple[float, float, float]:
    """Mean of any numbers with a cluster-robust t interval; degenerate as in `paired_difference`, nan for no values."""
    mean, low, high, _ = paired_difference(np.zeros(len(values)), values, clusters)
    return mean, low, high


class ExactP(NamedTuple):
    """An exact p-value (1 + as_extreme) / (1 + controls), and `floor`, the least it could be: 1 / (1 + controls)."""

    p: float
    as_extreme: int
    floor: float


def exact_p(effect: float, control_effects: Sequence[float] | np.ndarray) -> ExactP:
    """How often a control's effect is as large as the target's, in either direction, the target counted in.

    In the target's own direction alone p would be half what it should be, for that direction was not fixed beforehand.
    Controls without an effect (nan) are left out; equal effects count as as large.
    """
    known = np.asarray(control_effects, dtype=float)
    known = known[~np.isnan(known)]
    floor = 1 / (1 + len(known))
    if np.isnan(effect):
        return ExactP(nan, 0, floor)
    as_extreme = int((np.abs(known) >= abs(effect) - _ROUNDING).sum())
    return ExactP((1 + as_extreme) * floor, as_extreme, floor)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values corrected for the family by Holm's step-down method (1979); nan stays nan and is not counted."""
    p_values = np.asarray(p_values, dtype=float)
    corrected = np.full(len(p_values), nan)
    known = ~np.isnan(p_values)
    if known.any():
        corrected[known] = multipletests(p_values[known], alpha=ALPHA, method="holm")[1]
    return corrected


def effective_size(n: float, design_effect: float, clusters: int) -> float:
    """Independent values that n clustered ones are worth, as `clustered_rate` explains; assumes two clusters or more.

    Args:
        design_effect: their variance over that of independent values; what is below 1 counts as 1.
    """
    few = float(t.ppf(1 - ALPHA / 2, n - 1) / t.ppf(1 - ALPHA / 2, clusters - 1)) ** 2
    return n / max(1.0, design_effect) * few


def _effective_size(values: np.ndarray, codes: np.ndarray) -> float:
    count, n, rate = int(codes.max()) + 1, len(values), values.mean()
    if count < 2 or rate in (0, 1):
        return count
    return effective_size(n, _standard_error(values, codes) ** 2 / (rate * (1 - rate) / n), count)


def _standard_error(values: np.ndarray, codes: np.ndarray) -> float:
    """Cluster-robust standard error of the mean, with the small-sample factor; assumes two clusters or more."""
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    return float(fit.bse[0])


def _codes(clusters: Sequence | np.ndarray) -> np.ndarray:
    """Clusters numbered from 0, [values]."""
    return np.unique(np.asarray(clusters), return_inverse=True)[1]
