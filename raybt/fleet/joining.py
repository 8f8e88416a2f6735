"""Plan rows with what became of them, joined by key."""

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, EVENTS, GRADES
from raybt.store.shards import Done

IDENTITY = [
    "stage", "condition", "role", "control_of", "subset", "operation", "vectors", "scale", "positions",
]  # fmt: skip


def beside(shard: str, kind: str) -> str:
    """completions/x.parquet -> events/x.parquet or grades/x.parquet."""
    return f"{kind}/{shard.partition('/')[2]}"


def planned_rows(plan: Plan, there: Done, stage: str | None = None) -> pd.DataFrame:
    """Plan rows, of one stage or all, with their conditions' columns, questions, and errors of rows that failed."""
    facts = plan.conditions.to_pandas()
    facts["n_sites"] = facts["sites"].map(len)
    questions = plan.prompts.select(["variant", "problem", "question"]).to_pandas()
    table = plan.rows if stage is None else plan.rows.filter(pc.field("stage") == stage)
    rows = table.to_pandas().merge(facts[[*IDENTITY, "n_sites"]]).merge(questions, on=["variant", "problem"])
    rows["error"] = rows["key"].map(there.failed)
    return rows


def with_grades(folder: RunFolder, shards: list[str], planned: pd.DataFrame) -> pd.DataFrame:
    """Rows with grades and numerics class; null where there are none."""
    if not shards:
        return planned.assign(**dict.fromkeys([*GRADES.names[1:], "numerics"]))
    grades = (folder.read_table(beside(shard, "grades"), GRADES) for shard in shards)
    numerics = (folder.read_table(shard, COMPLETIONS, ["key", "numerics"]) for shard in shards)
    rows = planned.merge(of_keys(grades, planned["key"]).to_pandas(), how="left", on="key")
    return rows.merge(of_keys(numerics, planned["key"]).to_pandas(), how="left", on="key")


def events_of(folder: RunFolder, shards: list[str], keys: Iterable[str]) -> pd.DataFrame:
    """Every match of a phrase in these completions; schema EVENTS."""
    tables = (folder.read_table(beside(shard, "events"), EVENTS) for shard in shards)
    return (of_keys(tables, keys) if shards else EVENTS.empty_table()).to_pandas()


def tokens_of(folder: RunFolder, shards: list[str], keys: Iterable[str]) -> dict[str, list[int]]:
    """Token ids of some rows, one shard in memory at a time."""
    wanted, found = set(keys), {}
    for shard in shards:
        table = of_keys([folder.read_table(shard, COMPLETIONS, ["key", "token_ids"])], wanted)
        found.update(zip(table["key"].to_pylist(), table["token_ids"].to_pylist(), strict=True))
    return found


def of_keys(tables: Iterable[pa.Table], keys: Iterable[str]) -> pa.Table:
    """The rows of tables whose key is one of these, one whole table in memory at a time; assumes at least one."""
    wanted = pa.array(sorted(set(keys)), pa.string())
    return pa.concat_tables([table.filter(pc.field("key").isin(wanted)) for table in tables])
