"""Detection and grading as Ray tasks: shards of completions -> events and grades, each under its shard's name."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version

import pyarrow as pa
import pyarrow.compute as pc
import ray

from raybt.config import Triggers
from raybt.fleet.job import pack
from raybt.fleet.joining import beside
from raybt.fleet.tasks import results
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.schemas import COMPLETIONS, EVENTS, GRADES
from raybt.store.shards import Done, read_completions

JUDGED_BY = b"raybt.judged_by"
SHARDS_A_TASK = 16


@dataclass(frozen=True)
class Jury:
    """What judging a completion depends on.

    Args:
        tokenizer, revision: where the tokenizer lies.
        problem_of: row key -> problem id, of every row that writes a completion.
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
    def digest(self) -> str:
        """Of all that decides a verdict, whichever completions are planned."""
        data = [self.triggers.model_dump(), sorted(self.golds.items()), version("raybt")]
        return hashlib.blake2b(json.dumps(data).encode(), digest_size=16).hexdigest()


def make_jury(plan: Plan, folder: RunFolder) -> Jury:
    continued = plan.measurements.filter(pc.field("kind") == "continuation")
    return Jury(
        folder.root,
        plan.facts.path,
        plan.facts.revision,
        plan.config.triggers,
        problem_of=mapping(plan.rows, "key", "problem") | mapping(continued, "key", "problem"),
        golds=mapping(plan.prompts, "problem", "gold"),
        rows=hashlib.blake2b(pack(plan.rows) + pack(plan.measurements)).hexdigest(),
    )


def mapping(table: pa.Table, key: str, value: str) -> dict[str, str]:
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def judge_completions(plan: Plan, folder: RunFolder, there: Done) -> Jury:
    """Judge every committed shard that is not judged yet, or by other rules; gives the jury."""
    jury = make_jury(plan, folder)
    shared, shards = ray.put(jury), there.shards
    groups = [shards[start : start + SHARDS_A_TASK] for start in range(0, len(shards), SHARDS_A_TASK)]
    results([judge_shards.remote(shared, group) for group in groups])
    for kind in ("events", "grades"):  # judgements of shards that are no longer there
        wanted = {beside(shard, kind) for shard in shards}
        for name, _ in folder.list(kind):
            if name not in wanted:
                folder.remove(name)
    return jury


@ray.remote(num_cpus=0.5, max_retries=2)
def judge_shards(jury: Jury, shards: list[str]) -> None:
    """Onsets and grades of some shards' planned completions."""
    from raybt.measure.judge import judge
    from raybt.plan.model_facts import load_tokenizer

    folder, rules = RunFolder(jury.root), jury.digest
    marks = {shard: mark(rules, planned_keys(jury, folder, shard)) for shard in shards}
    unjudged = [shard for shard in shards if not is_judged(folder, shard, marks[shard])]
    tokenizer = load_tokenizer(jury.tokenizer, jury.revision) if unjudged else None
    for shard in unjudged:
        completions = read_completions(folder, [shard])
        planned = completions.filter(pa.array([key in jury.problem_of for key in completions["key"].to_pylist()]))
        events, grades = judge(planned, jury.problem_of, jury.golds, tokenizer, jury.triggers)
        folder.commit_table(beside(shard, "events"), events, EVENTS, {JUDGED_BY: marks[shard]})
        folder.commit_table(beside(shard, "grades"), grades, GRADES, {JUDGED_BY: marks[shard]})


def planned_keys(jury: Jury, folder: RunFolder, shard: str) -> list[str]:
    keys = folder.read_table(shard, COMPLETIONS, ["key"])["key"].to_pylist()
    return [key for key in keys if key in jury.problem_of]


def mark(rules: str, keys: list[str]) -> bytes:
    """Says by what rules which rows of a shard were judged: a plan that grows elsewhere needs no second look."""
    return hashlib.blake2b(json.dumps([rules, keys]).encode(), digest_size=16).hexdigest().encode()


def is_judged(folder: RunFolder, shard: str, by: bytes) -> bool:
    """Grades are written last, so their mark vouches for the events too."""
    return folder.read_metadata(beside(shard, "grades")).get(JUDGED_BY) == by
