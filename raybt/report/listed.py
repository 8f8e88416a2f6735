"""What the report speaks of condition by condition: neither controls nor what a search only tried."""

from dataclasses import replace

import pandas as pd

from raybt.report.results import Results, without_controls
from raybt.report.searched import search_stages


def listed(results: Results) -> Results:
    """Baseline and targets of the stages that a config names. Each control and each candidate stands in its own
    section: a control has no finding, and what selects never confirms."""
    return without_controls(outside_search(results))


def outside_search(results: Results) -> Results:
    """Results without the stages that hold a search's rungs and its confirmation."""
    stages = search_stages(results)
    if not stages:
        return results
    tables = {name: _outside(getattr(results, name), stages) for name in ("conditions", "contrasts", "examples")}
    study = {name: _outside(table, stages) if name != "search" else table for name, table in results.study.items()}
    return replace(results, **tables, study=study)


def _outside(table: pd.DataFrame, stages: set[str]) -> pd.DataFrame:
    return table.loc[~table["stage"].isin(stages)] if "stage" in table else table
