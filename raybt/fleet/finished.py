"""The tables of complete waves that decisions are made from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from raybt.config import BASELINE
from raybt.fleet.joining import planned_rows, tokens_of, with_grades
from raybt.measure.study.scan import scan_table
from raybt.measure.study.search import candidates
from raybt.measure.tables import summarise
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.shards import SCANNED, Done, read_rows


class Tables:
    """Answers `study.decide` from a run's folder; see there what each method gives."""

    def __init__(self, plan: Plan, folder: RunFolder, there: Done):
        self.plan, self.folder, self.there = plan, folder, there
        self.ended = there.keys | set(there.failed)

    def graded(self, variant: str, problems: Sequence[str]) -> pd.DataFrame | None:
        rows = self.plan.rows.filter((pc.field("stage") == BASELINE) & (pc.field("variant") == variant)).to_pandas()
        rows = rows.loc[rows["problem"].isin(list(problems))]
        if not len(rows) or not self._complete(rows):
            return None
        graded = with_grades(self.folder, self.there.shards, rows)
        graded = graded.loc[graded["verdict"].notna()]
        tokens = tokens_of(self.folder, self.there.shards, graded["key"])
        ids, at = [tokens[key] for key in graded["key"]], graded["onset_token"].astype(float)
        first = [row[int(token)] if token == token else np.nan for row, token in zip(ids, at, strict=True)]
        return graded.assign(token_ids=ids, onset_token_id=first)

    def scanned(self, stage: str) -> pd.DataFrame | None:
        rows = self.plan.measurements.to_pandas()
        rows = rows.loc[(rows["stage"] == stage) & (rows["kind"] == "scan")]
        if not len(rows) or not self._complete(rows):
            return None
        return scan_table(rows, read_rows(self.folder, SCANNED, self.there.measured[SCANNED])).to_pandas()

    def estimates(self, stage: str) -> pd.DataFrame | None:
        rows = planned_rows(self.plan, self.there, stage)
        if not len(rows) or not self._complete(rows):
            return None
        conditions, contrasts = summarise(with_grades(self.folder, self.there.shards, rows))
        return candidates(conditions.to_pandas(), contrasts.to_pandas())

    def _complete(self, rows: pd.DataFrame) -> bool:
        return set(rows["key"]) <= self.ended
