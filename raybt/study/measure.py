"""Chosen events -> what is measured at them: rows of measurements.parquet, and the work behind them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raybt.config import Config, Continuation, Lens, Measured, Sampling, Scan
from raybt.plan.conditions import condition_name, trigger_tokens
from raybt.plan.keys import Treatment, measurement_key, row_key, stream
from raybt.plan.layout import Layout
from raybt.plan.marks import marked
from raybt.plan.model_facts import ModelFacts
from raybt.plan.rows import WORK
from raybt.plan.sites import EMPTY, Term, canonical, canonical_terms, expand
from raybt.plan.vectors import VectorSet, content_hash
from raybt.store.schemas.study import MEASUREMENTS, TEXTS
from raybt.study.decisions import Decisions, as_json
from raybt.study.layout import Families, means_of

AT_THE_STEP = "onset:[[0,1],[]]"
"""Positions of a continuation: on at the step that reads the last token of the prefix, and at no other."""
BASELINE = "baseline"


@dataclass(frozen=True)
class Measurements:
    """What stages measure: schemas MEASUREMENTS, TEXTS and WORK."""

    rows: pa.Table
    texts: pa.Table
    work: pa.Table


class Planner:
    """Plans the measurements of every stage whose events are chosen.

    Args:
        texts: completion key -> (tokens of its prompt, all its tokens, prompt first).
        vectors: sets of vectors that are there, by name.
    """

    def __init__(
        self,
        config: Config,
        facts: ModelFacts,
        layout: Layout,
        families: Families,
        texts: Mapping[str, tuple[int, list[int]]],
        vectors: Mapping[str, VectorSet],
    ):
        self.config, self.facts, self.layout, self.families = config, facts, layout, families
        self.texts, self.vectors = texts, vectors
        self.place = {source: row for row, source in enumerate(texts)}
        self.triggers = first_tokens(config.triggers.strict, facts)
        self.words = self._words()

    def _words(self) -> list[list[int]]:
        """First tokens of each watched word; one that a trigger or an earlier word begins with is left to that."""
        taken, words = set(self.triggers), []
        for word in self.config.triggers.alternatives:
            words.append([token for token in first_tokens((word,), self.facts) if token not in taken])
            taken.update(words[-1])
        return words

    def plan(self, decided: Decisions) -> Measurements:
        rows: list[dict[str, Any]] = []
        work: list[dict[str, Any]] = []
        for name, stage in self.config.stages.items():
            events = decided.value(f"events:{name}")
            if isinstance(stage, Measured) and events is not None and self.ready(name, stage, events["events"]):
                for row, item in self.stage(name, stage, events["events"]):
                    rows.append(row)
                    work.append(item)
        sources = [
            {"source": source, "prompt_tokens": prompt, "token_ids": tokens}
            for source, (prompt, tokens) in self.texts.items()
        ]
        return Measurements(
            pa.Table.from_pylist(rows, MEASUREMENTS),
            pa.Table.from_pylist(sources, TEXTS),
            pa.Table.from_pylist(work, WORK),
        )

    def ready(self, name: str, stage: Measured, events: Sequence[dict]) -> bool:
        """Whether the texts and all that the stage intervenes with are there."""
        if any(event["source"] not in self.texts for event in events):
            return False
        if isinstance(stage, Scan):
            return "mean" not in stage.operations or means_of(name) in self.vectors
        return not isinstance(stage, Continuation) or all(one in self.families.members for one in stage.subsets)

    def stage(self, name: str, stage: Measured, events: Sequence[dict]) -> Iterator[tuple[dict, dict]]:
        """(row, its work) of everything that one stage measures."""
        if isinstance(stage, Lens):
            for event in events:
                yield self._probe(name, "lens", event, "")
        elif isinstance(stage, Scan):
            spec = self._spec(self._scanned(name, stage))
            for event in events:
                yield self._probe(name, "scan", event, spec)
        elif isinstance(stage, Continuation):
            yield from self._continuations(name, stage, events)

    def _scanned(self, name: str, stage: Scan) -> list[str]:
        """Every site under every operation, as canonical interventions."""
        named = expand(stage.sites, self.facts.n_layers, self.facts.n_heads)
        terms = {"zero": lambda site: Term(site, "zero", 0.0), "mean": lambda site: self._mean(name, site)}
        return [canonical_terms([terms[operation](site)]) for operation in stage.operations for site in named]

    def _mean(self, name: str, site: str) -> Term:
        return Term(site, "mean", 1.0, content_hash(self.vectors[means_of(name)][site]))

    def _spec(self, interventions: list[str]) -> str:
        return as_json({"interventions": interventions, "triggers": self.triggers, "words": self.words})

    def _probe(self, name: str, kind: str, event: dict, spec: str) -> tuple[dict, dict]:
        prompt, tokens = self.texts[event["source"]]
        read = tokens[: prompt + event["token"]]
        key = measurement_key(kind, marked(self.facts, kind), read, event["target"], spec)
        work = {"token": event["token"], "target": event["target"], "spec": spec}
        return self._row(name, kind, event, key), self._work(kind, event, key, work)

    def _continuations(self, name: str, stage: Continuation, events: Sequence[dict]) -> Iterator[tuple[dict, dict]]:
        conditions = {BASELINE: EMPTY, **self._conditions(stage)}
        spec = self._spec(list(dict.fromkeys(conditions.values())))
        sampling = self.config.sampling.model_copy(update={"max_new_tokens": stage.max_new_tokens})
        for event in events:
            row, work = self._probe(name, "scan", event, spec)
            for condition, intervention in conditions.items():
                yield {**row, "kind": "step", "condition": condition, "intervention": intervention}, work
            for condition, intervention in conditions.items():
                for draw in range(stage.draws):
                    yield self._continuation(name, event, condition, intervention, draw, sampling)

    def _conditions(self, stage: Continuation) -> dict[str, str]:
        members = [member for name in stage.subsets for member in self.families.members[name]]
        return {
            condition_name(member, scale): canonical(self.families.sites[member], scale)
            for member in dict.fromkeys(members)
            for scale in stage.scales
        }

    def _continuation(
        self, name: str, event: dict, condition: str, intervention: str, draw: int, sampling: Sampling
    ) -> tuple[dict, dict]:
        prompt, tokens = self.texts[event["source"]]
        read = tokens[: prompt + event["token"]]
        purpose = f"continuation at {event['token']}"  # draw j of every condition shares its noise
        number = stream(self.config.seed, event["problem"], event["sample"], purpose, draw)
        key = row_key(marked(self.facts), read, Treatment(intervention, AT_THE_STEP), sampling, number)
        work = {
            "token": event["token"],
            "intervention": intervention,
            "positions": AT_THE_STEP if intervention != EMPTY else "decode",
            "stream": number,
            "max_new_tokens": sampling.max_new_tokens,
        }
        given = {"condition": condition, "intervention": intervention, "draw": draw}
        return {**self._row(name, "continuation", event, key), **given}, self._work("continuation", event, key, work)

    def _row(self, name: str, kind: str, event: dict, key: str) -> dict[str, Any]:
        event_id = f"{event['source']}:{event['token']}"
        return {"stage": name, "kind": kind, "event": event_id, **event, "key": key}

    def _work(self, kind: str, event: dict, key: str, rest: dict[str, Any]) -> dict[str, Any]:
        return {"key": key, "kind": kind, "prompt": self.place[event["source"]], **rest}


def first_tokens(phrases: Sequence[str], facts: ModelFacts) -> list[int]:
    """First token ids of phrases as they stand at a line's start and after a space: the trigger set.

    Where that space is a token of its own the one after it counts: a space alone begins anything.
    """
    decode = facts.tokenizer.decode
    return sorted({next(one for one in ids if str(decode([one])).strip()) for ids in trigger_tokens(phrases, facts)})


def sources(config: Config, decided: Decisions) -> list[str]:
    """Keys of the completions that the chosen events lie in, each once, in order."""
    chosen = (decided.value(f"events:{name}") or {"events": []} for name in config.stages)
    return list(dict.fromkeys(event["source"] for value in chosen for event in value["events"]))
