"""A finished study as a test reads it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from raybt.fleet.driver import Outcome


@dataclass(frozen=True)
class Study:
    """A run that has ended, only to be read."""

    outcome: Outcome

    @property
    def root(self) -> Path:
        return Path(self.outcome.root)

    def file(self, name: str) -> pd.DataFrame:
        """`plan`, `measurements`, `tables/scan`, ..."""
        return pq.read_table(self.root / f"{name}.parquet").to_pandas()

    def table(self, name: str, **equal) -> pd.DataFrame:
        """Rows of a table in which the columns named have these values."""
        rows = self.file(f"tables/{name}")
        for column, value in equal.items():
            rows = rows.loc[rows[column] == value]
        return rows

    def decision(self, name: str):
        """(value, reason)."""
        decided = self.file("decisions").set_index("name").loc[name]
        return json.loads(decided["value"]), decided["reason"]

    @property
    def report(self) -> str:
        return (self.root / "report.md").read_text()

    @property
    def figures(self) -> set[str]:
        """Names of the figures; each is there as PNG, as SVG and as the rows drawn in it."""
        files = [path for path in (self.root / "figures").iterdir() if path.stat().st_size]
        names = {path.stem for path in files if path.suffix == ".png"}
        assert names == {path.stem for path in files if path.suffix == ".svg"}
        drawn = {path.name.split(".")[0] for path in files if path.suffix == ".csv"}  # a figure may have several
        assert drawn == names
        return names
