"""How a run stands: its plan, from the config and from what its folder holds. Needs neither Ray nor torch."""

from dataclasses import dataclass

import pyarrow as pa

from raybt.config import Config
from raybt.fleet.made import made_vectors
from raybt.plan.layout import Layout
from raybt.plan.model_facts import ModelFacts, resolve_model
from raybt.plan.problems import Problem, load_problems
from raybt.plan.rows import Plan, make_plan
from raybt.plan.vectors import VectorSet
from raybt.store.folder import RunFolder, run_root
from raybt.store.schemas.study import DECISIONS
from raybt.store.shards import Done, done, read_completions
from raybt.study.decide import NOTHING, decide
from raybt.study.decisions import Decisions, read_decisions
from raybt.study.layout import find_families, lay_out
from raybt.study.measure import Planner, sources

DECISIONS_FILE = "decisions.parquet"


@dataclass(frozen=True)
class Given:
    """What a run is made from, read once."""

    config: Config
    facts: ModelFacts
    problems: list[Problem]

    @property
    def folder(self) -> RunFolder:
        return RunFolder(run_root(self.config.artifacts, self.config.name))

    @property
    def ids(self) -> list[str]:
        """Ids of all problems."""
        return [problem.id for problem in self.problems]


@dataclass(frozen=True)
class Standing:
    """The plan of all that is known by now.

    Args:
        decided: what the folder holds, and what follows from config and seed alone.
        vectors: the sets of vectors that are there.
    """

    plan: Plan
    decided: Decisions
    vectors: dict[str, VectorSet]


def given(config: Config) -> Given:
    """Read the model's facts and the problems.

    Raises:
        UserError: there is no such model, or no such problems.
    """
    return Given(config, resolve_model(config.model), load_problems(config.problems))


def stand(run: Given, there: Done | None = None) -> Standing:
    """Plan what the decisions in the run's folder allow.

    Args:
        there: what is committed; None looks.
    """
    folder, config, facts = run.folder, run.config, run.facts
    decided = decisions_in(folder)
    decided = decided.with_more(decide(config, facts, decided, run.ids, NOTHING))
    vectors, layout = known_vectors(run, decided)
    plan = make_plan(config, facts, vectors, layout, run.problems)
    if not sources(config, decided):
        return Standing(plan, decided, vectors)
    shards = (there or done(folder)).shards
    texts = texts_of(plan, folder, shards, sources(config, decided))
    planner = Planner(config, facts, layout, find_families(config, facts, decided), texts, vectors)
    measured = planner.plan(decided)
    return Standing(plan.measuring(measured.rows, measured.texts, measured.work), decided, vectors)


def known_vectors(run: Given, decided: Decisions) -> tuple[dict[str, VectorSet], Layout]:
    """The sets that are there, and the layout that can use them."""
    wanting = lay_out(run.config, run.facts, decided, run.ids, made=())
    vectors = made_vectors(run.folder, wanting)
    return vectors, lay_out(run.config, run.facts, decided, run.ids, made=vectors)


def decisions_in(folder: RunFolder) -> Decisions:
    if not folder.exists(DECISIONS_FILE):
        return Decisions()
    return read_decisions(folder.read_table(DECISIONS_FILE, DECISIONS))


def texts_of(plan: Plan, folder: RunFolder, shards: list[str], wanted: list[str]) -> dict[str, tuple[int, list[int]]]:
    """Completion key -> (tokens of its prompt, prompt and completion), in the order of `wanted`."""
    prompts = plan.prompts["token_ids"]
    prompt_of = dict(zip(plan.work["key"].to_pylist(), plan.work["prompt"].to_pylist(), strict=True))
    keys, found = set(wanted), {}
    for shard in shards:
        table = read_completions(folder, [shard]).select(["key", "token_ids"])
        for row in table.filter(pa.array([key in keys for key in table["key"].to_pylist()], pa.bool_())).to_pylist():
            prompt = prompts[prompt_of[row["key"]]].as_py()
            found[row["key"]] = (len(prompt), prompt + row["token_ids"])
    return {key: found[key] for key in wanted if key in found}
