"""Aggregation as Ray tasks: judged completions and measurements -> the tables under tables/."""

import hashlib
import json

import pandas as pd
import pyarrow as pa
import ray

from raybt.fleet.joining import events_of, planned_rows, tokens_of, with_grades
from raybt.fleet.judging import Jury, judge_completions, make_jury
from raybt.fleet.study_tables import measure_study
from raybt.fleet.tasks import results
from raybt.plan.layout import CONTROL, DIRECTION
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.schemas import SUMMARIES
from raybt.store.schemas.study import STUDY_TABLES
from raybt.store.shards import Done
from raybt.study.decisions import Decisions

AGGREGATED_FROM = b"raybt.aggregated_from"
EXAMPLE_PAIRS = 200  # (problem, sample) pairs of a family that examples are chosen from
TABLES = {**SUMMARIES, **STUDY_TABLES}


def aggregate(plan: Plan, decided: Decisions, folder: RunFolder, there: Done) -> None:
    """Judge every committed shard, then summarise families and measurements into tables/."""
    jury = judge_completions(plan, folder, there)
    mark = {AGGREGATED_FROM: digest(jury, there)}
    tables = joined_up(summarise_all(plan, jury, there))
    tables |= measure_study(plan, decided, folder, there, tables)
    for name, schema in TABLES.items():
        table = tables.get(name, schema.empty_table())
        folder.commit(f"tables/{name}.csv", readable_csv(table))
        folder.commit_table(f"tables/{name}.parquet", table, schema, mark)


def is_aggregated(plan: Plan, folder: RunFolder, there: Done) -> bool:
    """Whether the tables are those of this plan and of what is committed now."""
    mark = digest(make_jury(plan, folder), there)
    return all(folder.read_metadata(f"tables/{name}.parquet").get(AGGREGATED_FROM) == mark for name in TABLES)


def digest(jury: Jury, there: Done) -> bytes:
    """What the tables are made from: how completions are judged, the shards, and the rows that failed."""
    parts = json.dumps([jury.digest, jury.rows, there.shards, there.measured, sorted(there.failed.items())])
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest().encode()


def summarise_all(plan: Plan, jury: Jury, there: Done) -> list[dict[str, pa.Table]]:
    """One task a family: a stage under one prompt variant, with its own baseline."""
    shared = ray.put(jury)
    families = [family for _, family in planned_rows(plan, there).groupby(["stage", "variant"], sort=False)]
    return results([summarise_family.remote(shared, there.shards, family) for family in families])


def joined_up(parts: list[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    return {name: pa.concat_tables([part[name] for part in parts]) for name in parts[0]}


@ray.remote(num_cpus=1, max_retries=2)
def summarise_family(jury: Jury, shards: list[str], planned: pd.DataFrame) -> dict[str, pa.Table]:
    from raybt.measure.examples import examples
    from raybt.measure.study.phrases import phrases_table
    from raybt.measure.study.strata import strata_table
    from raybt.measure.study.survival import placement_table, survival_table
    from raybt.measure.tables import summarise
    from raybt.plan.model_facts import load_tokenizer

    folder = RunFolder(jury.root)
    rows = with_grades(folder, shards, planned)
    conditions, contrasts = summarise(rows)
    told = rows.loc[
        ~rows["role"].isin([CONTROL, DIRECTION])
    ]  # controls are a distribution; nobody reads them one by one
    pairs = told[["problem", "sample"]].drop_duplicates().head(EXAMPLE_PAIRS)
    shown = told.merge(pairs, on=["problem", "sample"])
    tokens = tokens_of(folder, shards, shown["key"])
    tokenizer = load_tokenizer(jury.tokenizer, jury.revision)
    return {
        "conditions": conditions,
        "contrasts": contrasts,
        "examples": examples(shown, tokens, tokenizer, jury.triggers),
        "strata": strata_table(told),
        "survival": survival_table(told),
        "placement": placement_table(told),
        "phrases": phrases_table(told, events_of(folder, shards, told["key"]), jury.triggers),
    }


def readable_csv(table: pa.Table) -> bytes:
    """CSV for a spreadsheet; nested columns as JSON."""
    frame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_nested(field.type):
            frame[field.name] = [json.dumps(value) for value in table[field.name].to_pylist()]
    return frame.to_csv(index=False).encode()
