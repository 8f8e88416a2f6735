"""What a search saw: each candidate against the baseline on the problems of its rung."""

import pandas as pd
import pyarrow as pa

from raybt.config import BASELINE
from raybt.measure.study.clustered import as_table
from raybt.store.schemas.study import SEARCH_TABLE

_FACTS = ["stage", "condition", "subset", "scale", "n_sites", "collapsed"]
_BOUNDS = {"difference": "", "low": "_low", "high": "_high"}


def candidates(conditions: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """The estimates that a rung is decided from, one row a candidate; columns of `SEARCH_TABLE`.

    `reduction` is the share of the baseline's onset rate that is gone, over the pairs; nan where the baseline has none.

    Args:
        conditions: `CONDITION_TABLE` of one family. contrasts: its `CONTRAST_TABLE`.
    """
    found = conditions.loc[conditions["condition"] != BASELINE, _FACTS]
    for measure, stem, rate in (("onset_rate", "onset", "onset_rate"), ("accuracy_all", "accuracy", "accuracy")):
        names = {"baseline": f"{rate}_baseline", "treated": rate}
        names |= {name: f"{stem}_difference{part}" for name, part in _BOUNDS.items()}
        counts = ["problems", "pairs", "pairs_lost"] if measure == "onset_rate" else []
        rows = contrasts.loc[contrasts["measure"] == measure, ["condition", *counts, *names]]
        found = found.merge(rows.rename(columns=names), on="condition")
    base = found["onset_rate_baseline"]
    return found.assign(reduction=1 - found["onset_rate"] / base.where(base > 0))


def search_table(judged: pd.DataFrame) -> pa.Table:
    """`SEARCH_TABLE`, in the order of the rows.

    Args:
        judged: rows of `candidates`, with phase (`select` or `confirm`), rung, and what was decided of them: within,
            on_front and verdict.
    """
    return as_table(judged, SEARCH_TABLE)
