"""Detection, grading and aggregation as Ray tasks: shards -> events and grades -> tables."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd
import pyarrow as pa
import ray

from raybt.config import Triggers
from raybt.fleet.job import pack
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, EVENTS, GRADES, SUMMARIES
from raybt.store.shards import Done, read_completions

JUDGED_BY = b"raybt.judged_by"
AGGREGATED_FROM = b"raybt.aggregated_from"
SHARDS_A_TASK = 16
IDENTITY = ["stage", "condition", "subset", "operation", "vectors", "scale", "positions"]
EXAMPLE_PAIRS = 200  # (problem, sample) pairs of a family that examples are chosen from


@dataclass(frozen=True)
class Jury:
    """What judging a completion depends on; its digest marks the shards that need no second look.

    Args:
        tokenizer, revision: where the tokenizer lies.
        problem_of: row key -> problem id.
        golds: problem id -> gold answer.
        rows: digest of the plan's rows, which the tables depend on and judging does not.
    """

    root: str
    tokenizer: str
    revision: str | None
    triggers: Triggers
    problem_of: dict[str, str]
    golds: dict[str, str]
    rows: str

    @property
    def digest(self) -> bytes:
        data = [self.triggers.model_dump(), sorted(self.golds.items()), sorted(self.problem_of), version("raybt")]
        return hashlib.blake2b(json.dumps(data).encode(), digest_size=16).hexdigest().encode()


def aggregate(plan: Plan, folder: RunFolder, there: Done) -> None:
    """Judge every committed shard, then summarise every (stage, variant) family into tables/."""
    jury = make_jury(plan, folder)
    mark = {AGGREGATED_FROM: digest(jury, there)}
    judge_all(jury, folder, there.shards)
    parts = summarise_all(plan, jury, there)
    for name, schema in SUMMARIES.items():
        table = pa.concat_tables([part[name] for part in parts])
        folder.commit(f"tables/{name}.csv", readable_csv(table))
        folder.commit_table(f"tables/{name}.parquet", table, schema, mark)


def is_aggregated(plan: Plan, folder: RunFolder, there: Done) -> bool:
    """Whether the tables are those of this plan and of what is committed now."""
    mark = digest(make_jury(plan, folder), there)
    return all(folder.read_metadata(f"tables/{name}.parquet").get(AGGREGATED_FROM) == mark for name in SUMMARIES)


def digest(jury: Jury, there: Done) -> bytes:
    """What the tables are made from: how completions are judged, the shards, and the rows that failed."""
    parts = json.dumps([jury.rows, there.shards, sorted(there.failed.items())])
    return hashlib.blake2b(jury.digest + parts.encode(), digest_size=16).hexdigest().encode()


def make_jury(plan: Plan, folder: RunFolder) -> Jury:
    def mapping(table: pa.Table, key: str, value: str) -> dict[str, str]:
        return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))

    return Jury(
        folder.root,
        plan.facts.path,
        plan.facts.revision,
        plan.config.triggers,
        problem_of=mapping(plan.rows, "key", "problem"),
        golds=mapping(plan.prompts, "problem", "gold"),
        rows=hashlib.blake2b(pack(plan.rows)).hexdigest(),
    )


def judge_all(jury: Jury, folder: RunFolder, shards: list[str]) -> None:
    shared, digest = ray.put(jury), jury.digest
    groups = [shards[start : start + SHARDS_A_TASK] for start in range(0, len(shards), SHARDS_A_TASK)]
    ray.get([judge_shards.remote(shared, digest, group) for group in groups])
    for kind in ("events", "grades"):  # judgements of shards that are no longer there
        wanted = {beside(shard, kind) for shard in shards}
        for name, _ in folder.list(kind):
            if name not in wanted:
                folder.remove(name)


def beside(shard: str, kind: str) -> str:
    """completions/x.parquet -> events/x.parquet or grades/x.parquet."""
    return f"{kind}/{shard.partition('/')[2]}"


@ray.remote(num_cpus=0.5, max_retries=2)
def judge_shards(jury: Jury, digest: bytes, shards: list[str]) -> None:
    """Onsets and grades of some shards' completions, each written under its shard's name."""
    from raybt.measure.judge import judge
    from raybt.plan.model_facts import load_tokenizer

    folder = RunFolder(jury.root)
    unjudged = [shard for shard in shards if not is_judged(folder, shard, digest)]
    tokenizer = load_tokenizer(jury.tokenizer, jury.revision) if unjudged else None
    for shard in unjudged:
        completions = read_completions(folder, [shard])
        planned = completions.filter(pa.array(key in jury.problem_of for key in completions["key"].to_pylist()))
        events, grades = judge(planned, jury.problem_of, jury.golds, tokenizer, jury.triggers)
        folder.commit_table(beside(shard, "events"), events, EVENTS, {JUDGED_BY: digest})
        folder.commit_table(beside(shard, "grades"), grades, GRADES, {JUDGED_BY: digest})


def is_judged(folder: RunFolder, shard: str, digest: bytes) -> bool:
    """Grades are written last, so their mark vouches for the events too."""
    return folder.read_metadata(beside(shard, "grades")).get(JUDGED_BY) == digest


def summarise_all(plan: Plan, jury: Jury, there: Done) -> list[dict[str, pa.Table]]:
    """One task a family: a stage under one prompt variant, with its own baseline."""
    facts = plan.conditions.to_pandas()
    facts["n_sites"] = facts["sites"].map(len)
    questions = plan.prompts.select(["variant", "problem", "question"]).to_pandas()
    rows = plan.rows.to_pandas().merge(facts[[*IDENTITY, "n_sites"]])
    rows = rows.merge(questions, on=["variant", "problem"])
    rows["error"] = rows["key"].map(there.failed)
    shared = ray.put(jury)
    families = [family for _, family in rows.groupby(["stage", "variant"], sort=False)]
    return ray.get([summarise_family.remote(shared, there.shards, family) for family in families])


@ray.remote(num_cpus=1, max_retries=2)
def summarise_family(jury: Jury, shards: list[str], planned: pd.DataFrame) -> dict[str, pa.Table]:
    from raybt.measure.examples import examples
    from raybt.measure.tables import summarise
    from raybt.plan.model_facts import load_tokenizer

    folder = RunFolder(jury.root)
    rows = joined(folder, shards, planned)
    conditions, contrasts = summarise(rows)
    pairs = rows[["problem", "sample"]].drop_duplicates().head(EXAMPLE_PAIRS)
    shown = rows.merge(pairs, on=["problem", "sample"])
    tokens = tokens_of(folder, shards, set(shown["key"]))
    tokenizer = load_tokenizer(jury.tokenizer, jury.revision)
    chosen = examples(shown, tokens, tokenizer, jury.triggers)
    return {"conditions": conditions, "contrasts": contrasts, "examples": chosen}


def joined(folder: RunFolder, shards: list[str], planned: pd.DataFrame) -> pd.DataFrame:
    """Plan rows with what became of them, joined by key: grades and numerics class, null where there are none."""
    grades = [folder.read_table(beside(shard, "grades"), GRADES) for shard in shards]
    numerics = [folder.read_table(shard, COMPLETIONS, ["key", "numerics"]) for shard in shards]
    if not shards:
        return planned.assign(**dict.fromkeys([*GRADES.names[1:], "numerics"]))
    rows = planned.merge(pa.concat_tables(grades).to_pandas(), how="left", on="key")
    return rows.merge(pa.concat_tables(numerics).to_pandas(), how="left", on="key")


def tokens_of(folder: RunFolder, shards: list[str], keys: set[str]) -> dict[str, list[int]]:
    """Token ids of some rows, one shard in memory at a time."""
    found = {}
    for shard in shards:
        table = folder.read_table(shard, COMPLETIONS, ["key", "token_ids"])
        wanted = table.filter(pa.array(key in keys for key in table["key"].to_pylist()))
        found.update(zip(wanted["key"].to_pylist(), wanted["token_ids"].to_pylist(), strict=True))
    return found


def readable_csv(table: pa.Table) -> bytes:
    """CSV for a spreadsheet; nested columns as JSON."""
    frame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_nested(field.type):
            frame[field.name] = [json.dumps(value) for value in table[field.name].to_pylist()]
    return frame.to_csv(index=False).encode()
