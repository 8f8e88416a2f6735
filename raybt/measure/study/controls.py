"""A target's effect among those of its controls: random subsets matched to it, and random directions."""

from collections.abc import Iterator, Mapping, Sequence
from math import nan

import numpy as np
import pandas as pd
import pyarrow as pa

from raybt.measure.statistics import exact_p
from raybt.measure.study.clustered import as_table
from raybt.store.schemas.study import CONTROL_TABLE

AGAINST = {"control": "subsets", "direction": "directions"}
"""Role of the controls -> what they are."""
MEASURES = ("onset_rate", "accuracy_all")
PLACE = ["stage", "variant", "condition"]


def controls_table(
    conditions: pd.DataFrame, contrasts: pd.DataFrame, sites_of: Mapping[str, Sequence[str]]
) -> pa.Table:
    """How many controls have an effect as large as their target's, in either direction, and the exact p-value.

    p = (1 + b) / (1 + m) for b of m controls, the target counted among them; its floor is 1 / (1 + m). A control that
    broke the model stays in: were its target's effect that of any break, this is what would show it. One without an
    effect (nothing of it is done) is not counted in m.

    Args:
        conditions: `CONDITION_TABLE`. contrasts: `CONTRAST_TABLE`. sites_of: condition -> sites.

    Returns:
        `CONTROL_TABLE`, one row a target with controls, kind of controls and measure. `effect` is the paired
        difference to the baseline, `mean`, `lowest` and `highest` are of the controls' effects, `overlap` is the mean
        share of the target's sites that are a control's too.
    """
    rows = contrasts.merge(conditions[[*PLACE, "role", "control_of"]], on=PLACE)
    drawn = rows.loc[rows["role"].isin(list(AGAINST)) & rows["measure"].isin(MEASURES)]
    lines = []
    for _, controls in drawn.groupby(["stage", "variant", "control_of", "role", "measure"], sort=False):
        first = controls.iloc[0]
        place = {name: first[name] for name in ("stage", "variant", "measure")} | {"condition": first["control_of"]}
        overlap = _overlaps(sites_of[first["control_of"]], [sites_of[name] for name in controls["condition"]])
        lines.append(
            place
            | {"against": AGAINST[first["role"]], "overlap": float(np.mean(list(overlap)))}
            | _among(_effect(rows, place), controls["difference"].dropna().to_numpy(float))
        )
    return as_table(lines, CONTROL_TABLE)


def _effect(rows: pd.DataFrame, place: dict) -> float:
    """The target's own difference."""
    (found,) = rows.loc[np.logical_and.reduce([rows[name] == value for name, value in place.items()]), "difference"]
    return float(found)


def _among(effect: float, controls: np.ndarray) -> dict:
    found, m = exact_p(effect, controls), len(controls)
    return {
        "effect": effect,
        "controls": m,
        "as_extreme": found.as_extreme,
        "p": found.p,
        "p_floor": found.floor,
        "mean": controls.mean() if m else nan,
        "lowest": controls.min() if m else nan,
        "highest": controls.max() if m else nan,
    }


def _overlaps(target: Sequence[str], controls: list[Sequence[str]]) -> Iterator[float]:
    for sites in controls:
        yield len({*target} & {*sites}) / len({*target})
