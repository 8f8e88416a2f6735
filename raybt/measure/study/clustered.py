"""What the study's tables share: intervals of many groups at once, joining by key, and writing by schema."""

from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import t

from raybt.measure.statistics import ALPHA, NO_SPREAD, paired_difference


def interval(stem: str, estimate: Sequence[float]) -> dict[str, float]:
    """(estimate, low, high) as the columns `stem`, `stem_low`, `stem_high`."""
    value, low, high = estimate
    return {stem: value, f"{stem}_low": low, f"{stem}_high": high}


def within(estimate: Sequence[float], least: float, most: float) -> tuple[float, float, float]:
    """(estimate, low, high) with bounds no wider than what can be: shares lie in 0 to 1, their differences in -1 to
    1."""
    value, low, high = estimate
    return value, float(np.clip(low, least, most)), float(np.clip(high, least, most))


def paired_rates(
    baseline: pd.Series, treated: pd.Series, clusters: pd.Series
) -> tuple[tuple[float, float, float], float]:
    """(difference of two rates, low, high), and p: `paired_difference` with bounds in -1 to 1."""
    *estimate, p = paired_difference(baseline.to_numpy(float), treated.to_numpy(float), clusters.to_numpy())
    return within(estimate, -1, 1), p


def clustered_means(values: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """`statistics.paired_difference` of each column with 0, for every group in one pass.

    That function fits one regression a group, which takes minutes for a scan of all heads. An intercept alone has a
    closed form: with G clusters and n values, the variance of the mean is G / (G - 1) times the sum over clusters of
    (sum of deviations from the mean)^2, over n^2. A nan among a group's values makes its mean nan.

    Args:
        values: the columns `by`, `problem` (the cluster) and `columns`.

    Returns:
        The columns `by` (groups as they first appear), `done` (values), `problems`, and for each column `x` its mean
        `x`, `x_low`, `x_high` and `x_p`.
    """
    group = values.groupby(by, sort=False, observed=True, dropna=False).ngroup().to_numpy()
    cell = values.groupby([*by, "problem"], sort=False, observed=True, dropna=False).ngroup().to_numpy()
    owner = group[np.unique(cell, return_index=True)[1]]  # [cells], the group of each
    n, problems = np.bincount(group), np.bincount(owner)
    means = values[by].drop_duplicates(ignore_index=True).assign(done=n, problems=problems)
    for column in columns:
        numbers = values[column].to_numpy(dtype=float)
        mean = np.bincount(group, numbers) / n
        deviations = np.bincount(cell, numbers - mean[group])
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.sqrt(np.bincount(owner, deviations**2) * problems / (problems - 1)) / n
        means = means.assign(**_tested(column, mean, error, problems))
    return means


def _tested(column: str, mean: np.ndarray, error: np.ndarray, problems: np.ndarray) -> dict[str, np.ndarray]:
    """Interval and p-value as in `statistics.paired_difference`; all arrays are [groups]."""
    known = problems > 1
    spread = known & ~(error < NO_SPREAD)
    freedom = np.maximum(problems - 1, 1)
    reach = np.where(spread, t.ppf(1 - ALPHA / 2, freedom) * error, nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * t.sf(np.abs(mean) / error, freedom)
    same = np.where(np.abs(mean) < NO_SPREAD, 1.0, 2.0 ** (1 - problems))
    p = np.where(known, np.where(spread, p, same), nan)
    return {column: mean, f"{column}_low": mean - reach, f"{column}_high": mean + reach, f"{column}_p": p}


def joined(plan: pd.DataFrame, results: pa.Table) -> tuple[pd.DataFrame, pa.Table]:
    """The plan rows that have a result, and that result of each, joined by key: two tables of one length."""
    row_of = pd.Series(np.arange(len(results)), index=results["key"].to_pylist(), dtype=float)
    at = plan["key"].map(row_of)
    return plan.loc[at.notna()], results.take(pa.array(at.dropna().astype(int), pa.int64()))


def items(done: pd.DataFrame, results: pa.Table, lists: list[str], columns: list[str]) -> pd.DataFrame:
    """One row for each item of lists that lie side by side, with these columns of its plan row.

    Args:
        done, results: from `joined`.
        lists: columns of `results`, of the same length in each row.
    """
    arrays = [results[name].combine_chunks() for name in lists]
    parents = pc.list_parent_indices(arrays[0]).to_numpy()  # pyright: ignore
    flat = {name: pc.list_flatten(array).to_pandas() for name, array in zip(lists, arrays, strict=True)}  # pyright: ignore
    return done[columns].iloc[parents].reset_index(drop=True).assign(**flat)


def with_planned(plan: pd.DataFrame, by: list[str], means: pd.DataFrame) -> pd.DataFrame:
    """`means` with `planned` and `failed`: plan rows, and those that have no result, whether failed or missing.

    Of a group in which nothing is done there is one row, with what was planned and no more.
    """
    planned = plan.groupby(by, sort=False, dropna=False, as_index=False).agg(planned=("key", "size"))
    lines = planned.merge(means, how="left", on=by)
    lines = lines.assign(done=lines["done"].fillna(0), problems=lines["problems"].fillna(0))
    return lines.assign(failed=lines["planned"] - lines["done"])


def as_table(lines: pd.DataFrame | list[dict], schema: pa.Schema) -> pa.Table:
    """The schema's columns; a number that is not known is nan, any other value that is not known is null."""
    frame = pd.DataFrame(lines, columns=None if len(lines) else schema.names)
    return pa.Table.from_arrays([_column(frame[field.name], field.type) for field in schema], schema=schema)


def _column(values: pd.Series, kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array(values.to_numpy(dtype=float), kind)
    return pa.array(values, kind, from_pandas=True)
