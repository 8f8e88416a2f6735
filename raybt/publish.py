"""Figures and report of a run, drawn from its tables and committed beside them."""

import pandas as pd
import yaml

from raybt.errors import UserError
from raybt.report import Results, render
from raybt.store.folder import RunFolder
from raybt.store.manifest import MANIFEST, read_config_yaml
from raybt.store.schemas import SUMMARIES


def publish(folder: RunFolder) -> None:
    """Write report.html, report.md and figures/; figures that are no longer drawn are removed.

    Raises:
        UserError: the run has no tables yet.
    """
    results = Results(yaml.safe_load(read_config_yaml(folder)), folder.read_json(MANIFEST), **_tables(folder))
    files = render(results)
    for name, data in files.items():
        folder.commit(name, data)
    for stale in {name for name, _ in folder.list("figures")} - set(files):
        folder.remove(stale)


def _tables(folder: RunFolder) -> dict[str, pd.DataFrame]:
    names = {table: f"tables/{table}.parquet" for table in SUMMARIES}
    missing = [name for name in names.values() if not folder.exists(name)]
    if missing:
        raise UserError(
            "a report is drawn from a run's tables",
            f"{folder.root} has no {missing[0]}",
            "finish the run: raybt run CONFIG",
        )
    return {table: folder.read_table(name, SUMMARIES[table]).to_pandas() for table, name in names.items()}
