"""Accuracy of completions with an onset and of those without: over all, over answered, and within problems."""

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa

from raybt.measure.statistics import clustered_mean, clustered_rate
from raybt.measure.study.clustered import as_table, interval, within
from raybt.store.schemas.study import STRATA_TABLE

PLACE = ["stage", "condition", "variant"]
WITH, WITHOUT, DIFFERENCE = "with", "without", "difference"


def strata_table(rows: pd.DataFrame) -> pa.Table:
    """Accuracy by whether a strict trigger occurs.

    Hard problems have more onsets and fewer right answers, so that the two strata differ also where backtracking does
    nothing. `by problem` compares like with like: it takes the problems that have both, gives each the same weight,
    and its `difference` (with - without) is a mean over differences within a problem.

    Args:
        rows: as for `tables.summarise`, of any number of stages and variants. Rows that are not done are left out.

    Returns:
        `STRATA_TABLE`: for each condition the strata `with` and `without` on the bases `all`, `answered` and
        `by problem`, and on the last also `difference`.
    """
    done = rows.loc[rows["verdict"].notna()]
    done = done.assign(
        stratum=done["onset_strict"].map({True: WITH, False: WITHOUT}), is_correct=done["verdict"] == "correct"
    )
    lines = []
    for place, part in done.groupby(PLACE, sort=False):
        answered = part.loc[part["verdict"].isin(["correct", "wrong"])]
        found = [*_rates("all", part), *_rates("answered", answered), *_by_problem(part)]
        lines += [dict(zip(PLACE, place, strict=True)) | line for line in found]
    return as_table(lines, STRATA_TABLE)


def _rates(basis: str, part: pd.DataFrame) -> Iterator[dict]:
    for stratum in (WITH, WITHOUT):
        rows = part.loc[part["stratum"] == stratum]
        yield _line(basis, stratum, rows, clustered_rate(rows["is_correct"].to_numpy(), rows["problem"].to_numpy()))


def _by_problem(part: pd.DataFrame) -> Iterator[dict]:
    """A problem is one value here, so intervals take nothing for independent that is not."""
    means = part.pivot_table("is_correct", "problem", "stratum").reindex(columns=[WITH, WITHOUT]).dropna()
    means[DIFFERENCE] = means[WITH] - means[WITHOUT]
    both = part.loc[part["problem"].isin(means.index)]
    for stratum, least in ((WITH, 0), (WITHOUT, 0), (DIFFERENCE, -1)):
        rows = both if stratum == DIFFERENCE else both.loc[both["stratum"] == stratum]
        estimate = clustered_mean(means[stratum].to_numpy(float), means.index.to_numpy())
        yield _line("by problem", stratum, rows, within(estimate, least, 1))


def _line(basis: str, stratum: str, rows: pd.DataFrame, estimate: tuple[float, float, float]) -> dict:
    counts = {"done": len(rows), "problems": rows["problem"].nunique()}
    return {"basis": basis, "stratum": stratum, **counts, **interval("accuracy", estimate)}
