"""The lens by layer, and what each component adds to the logit: at onsets and at their controls."""

from typing import Any

import pandas as pd
import pyarrow as pa

from raybt.measure.study.clustered import as_table, clustered_means, items, joined, with_planned
from raybt.store.schemas.study import ATTRIBUTION_TABLE, LENS_TABLE

GROUP = ["stage", "role"]


def lens_table(plan: pd.DataFrame, lenses: pa.Table) -> pa.Table:
    """What the stream at each place says of the target: mean logit and log-probability, median rank.

    Args:
        plan: `MEASUREMENTS` rows of kind lens. lenses: `LENSES`.

    Returns:
        `LENS_TABLE`, the places of a role in the model's order; one row without a place where nothing is done.
    """
    done, results = joined(plan, lenses)
    values = items(done, results, ["places", "logit", "log_probability", "rank"], [*GROUP, "problem"])
    values = values.rename(columns={"places": "place"})
    means = clustered_means(values, [*GROUP, "place"], ["logit", "log_probability"])
    ranks = values.groupby([*GROUP, "place"], sort=False)["rank"].median().reset_index()
    lines = with_planned(plan, GROUP, means).merge(ranks, how="left", on=[*GROUP, "place"])
    return as_table(lines.assign(**_parts(lines["place"], "component")), LENS_TABLE)


def attribution_table(plan: pd.DataFrame, lenses: pa.Table) -> pa.Table:
    """What each component adds to the target's logit; `ATTRIBUTION_TABLE`, components in the model's order.

    The means of a role sum to its mean logit before any soft cap. Arguments as for `lens_table`, which counts what is
    not done.
    """
    done, results = joined(plan, lenses)
    values = items(done, results, ["components", "attribution"], [*GROUP, "problem"])
    values = values.rename(columns={"components": "component"})
    means = clustered_means(values, [*GROUP, "component"], ["attribution"])
    return as_table(means.assign(**_parts(means["component"], "kind")), ATTRIBUTION_TABLE)


def _parts(names: pd.Series, kind: str) -> dict[str, Any]:
    """`attn.3` is of kind attn, in layer 3; `embedding` and `bias` are in no layer."""
    parts = names.astype("string").str.extract(r"^([a-z]+)(?:\.(\d+))?$")
    return {kind: parts[0], "layer": pd.to_numeric(parts[1])}
