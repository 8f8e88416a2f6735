"""Figures and report of a run, drawn from its tables and committed beside them."""

import pandas as pd
import yaml

from raybt.errors import UserError
from raybt.report import Results, render
from raybt.store.folder import RunFolder
from raybt.store.manifest import MANIFEST, read_config_yaml
from raybt.store.schemas import SUMMARIES
from raybt.store.schemas.study import DECISIONS, STUDY_TABLES

DECIDED = "decisions.parquet"


def publish(folder: RunFolder) -> None:
    """Write report.html, report.md and figures/; figures that are no longer drawn are removed.

    Raises:
        UserError: the run has no tables yet.
    """
    config, manifest = yaml.safe_load(read_config_yaml(folder)), folder.read_json(MANIFEST)
    results = Results(config, manifest, **_tables(folder), study=_study(folder), decisions=_decisions(folder))
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


def _study(folder: RunFolder) -> dict[str, pd.DataFrame]:
    names = {table: f"tables/{table}.parquet" for table in STUDY_TABLES}
    there = {table: name for table, name in names.items() if folder.exists(name)}
    return {table: folder.read_table(name, STUDY_TABLES[table]).to_pandas() for table, name in there.items()}


def _decisions(folder: RunFolder) -> pd.DataFrame | None:
    return folder.read_table(DECIDED, DECISIONS).to_pandas() if folder.exists(DECIDED) else None
