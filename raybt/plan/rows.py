"""The plan: which rows a config asks for, their keys, and the unique work behind them.

`rows` maps (stage, condition, variant, problem, sample) many-to-one to keys; `work` has each key once, in the order in
which it is best run: prompt by prompt, so that all conditions of a prompt share one prefill.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from raybt.config import Config
from raybt.plan.conditions import Vectors, plan_conditions
from raybt.plan.keys import KEY_BYTES, Keyer, frame_treatment, stream, stream_bytes, treatment
from raybt.plan.layout import Layout, plain_layout
from raybt.plan.marks import marked
from raybt.plan.model_facts import ModelFacts, resolve_model
from raybt.plan.problems import Problem, load_problems
from raybt.plan.prompts import plan_prompts
from raybt.plan.vectors import bank_of, gather
from raybt.store.schemas import PLAN
from raybt.store.schemas.study import MEASUREMENTS, TEXTS

_TEXT = pa.dictionary(pa.int32(), pa.string())

WORK = pa.schema([
    ("key", pa.string()),
    ("kind", _TEXT),
    ("prompt", pa.int32()),
    ("token", pa.int32()),
    ("target", pa.int32()),
    ("spec", _TEXT),
    ("intervention", _TEXT),
    ("positions", _TEXT),
    ("stream", pa.uint64()),
    ("max_new_tokens", pa.int32()),
])  # fmt: skip
"""`kind` is `completion`, whose `prompt` is a row number of prompts.parquet; or `continuation`, `lens` or `scan`, whose
`prompt` is a row number of texts.parquet, read up to the completion's token `token`. `spec` is JSON: what a lens or a
scan measures."""


@dataclass(frozen=True)
class Plan:
    """What a run is made of.

    Args:
        prompts: schema PROMPTS; a problem's variants side by side.
        conditions: schema CONDITIONS.
        rows: schema PLAN, every row that the config asks for.
        work: schema WORK, every key once, prompt-major, completions before measurements.
        measurements: schema MEASUREMENTS, what stages measure at events.
        texts: schema TEXTS, what they read.
        bank: the vectors that interventions name, by content hash.
    """

    config: Config
    facts: ModelFacts
    layout: Layout
    prompts: pa.Table
    conditions: pa.Table
    rows: pa.Table
    work: pa.Table
    bank: dict[str, np.ndarray] = field(default_factory=dict)
    measurements: pa.Table = field(default_factory=MEASUREMENTS.empty_table)
    texts: pa.Table = field(default_factory=TEXTS.empty_table)

    def measuring(self, measurements: pa.Table, texts: pa.Table, work: pa.Table) -> "Plan":
        """The same plan with measurements; `work` has their keys, some of them perhaps more than once."""
        _, first = np.unique(work["key"].to_numpy(zero_copy_only=False), return_index=True)
        work = pa.concat_tables([self.work, work.take(np.sort(first))])
        return replace(self, measurements=measurements, texts=texts, work=work)

    @property
    def prompt_lengths(self) -> np.ndarray:
        """Tokens of each prompt, [prompts]."""
        return self.prompts["token_ids"].combine_chunks().value_lengths().to_numpy()

    def missing(self, done: set[str]) -> pa.Table:
        """The rows of `work` whose keys are not in `done`, order kept."""
        if not done:
            return self.work
        return self.work.filter(pa.array([key not in done for key in self.work["key"].to_pylist()], pa.bool_()))


def make_plan(
    config: Config,
    facts: ModelFacts | None = None,
    made: Vectors | None = None,
    layout: Layout | None = None,
    problems: list[Problem] | None = None,
) -> Plan:
    """Plan a run's completions; reads the model's tokenizer, never its weights but to fingerprint them.

    Args:
        made: sets of vectors that raybt made, beside those in files.
        layout: what each stage runs; None takes the config's grids whose subsets it spells out.
        problems: None reads the config's.

    Raises:
        UserError: what the config asks for cannot be done with this model or these problems.
    """
    facts = facts or resolve_model(config.model)
    layout = layout or plain_layout(config, facts)
    vectors = gather(layout, made or {})
    conditions = plan_conditions(config, facts, vectors, layout)
    prompts = plan_prompts(
        load_problems(config.problems) if problems is None else problems,
        config.prompt,
        facts.tokenizer,
        facts.context_length,
        config.sampling.max_new_tokens + config.continued,
        facts.vocab_size,
        facts.switch,
    )
    cells = _Cells(config, prompts, conditions, layout)
    digests = cells.digests(config, marked(facts), prompts)
    keys = _hexadecimal(digests)
    rows, work = cells.rows(config, keys), cells.work(config, keys, digests)
    return Plan(config, facts, layout, prompts, conditions, rows, work, bank_of(layout, vectors))


class _Cells:
    """The unique (prompt, treatment) pairs of a plan, numbered prompt-major; a cell's samples follow each other.

    So row `cell * samples + sample` of the keys is the key of that cell's sample.
    """

    def __init__(self, config: Config, prompts: pa.Table, conditions: pa.Table, layout: Layout):
        self.samples = config.sampling.samples
        self.variants = list(config.prompt.variants)
        self.problems: list[str] = prompts["problem"].to_pylist()[:: len(self.variants)]
        self.streams = [
            [stream(config.seed, problem, sample) for sample in range(self.samples)] for problem in self.problems
        ]  # [problems][samples]
        named = [treatment(row["intervention"], row["positions"]) for row in conditions.to_pylist()]
        self.treatments = list(dict.fromkeys(named))
        self.treatment_of = np.array([self.treatments.index(one) for one in named])  # [conditions]
        self.conditions = conditions
        self.variants_of = {  # stage -> row numbers of its variants within a problem's prompts
            stage: [self.variants.index(name) for name in layout.variants(stage, config)] for stage in layout.stages
        }
        self.problems_of = self._problems_of_stages(layout)
        self.prompt, self.treatment, self.number = self._number_cells(len(prompts))

    def _problems_of_stages(self, layout: Layout) -> dict[str, np.ndarray]:
        """Stage -> row numbers of the problems that it runs on, in the problems' order."""
        place = {problem: row for row, problem in enumerate(self.problems)}
        return {
            stage: np.sort(np.array([place[problem] for problem in layout.problems.get(stage, self.problems)], int))
            for stage in layout.stages
        }

    def _number_cells(self, n_prompts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prompt of each cell, treatment of each cell, and [prompts, treatments] -> cell, -1 where unused."""
        used = np.zeros((n_prompts, len(self.treatments)), dtype=bool)
        for stage, treated in zip(self.conditions["stage"].to_pylist(), self.treatment_of, strict=True):
            for variant in self.variants_of[stage]:
                used[self.problems_of[stage] * len(self.variants) + variant, treated] = True
        prompt, treated = np.nonzero(used)
        number = np.full(used.shape, -1, dtype=np.int64)
        number[prompt, treated] = np.arange(len(prompt))
        return prompt, treated, number

    def digests(self, config: Config, fingerprint: str, prompts: pa.Table) -> bytes:
        """Row digests laid end to end, KEY_BYTES each: [cells * samples]."""
        keyer = Keyer(fingerprint, config.sampling)
        framed = [frame_treatment(one) for one in self.treatments]
        found: list[bytes] = []
        for prompt, token_ids in enumerate(prompts["token_ids"]):
            streams = self.streams[prompt // len(self.variants)]
            treatments = [framed[index] for index in np.flatnonzero(self.number[prompt] >= 0)]
            found += keyer.digests(
                token_ids.values.to_numpy(), treatments, [stream_bytes(config.sampling, number) for number in streams]
            )
        return b"".join(found)

    def rows(self, config: Config, keys: pa.Array) -> pa.Table:
        """Schema PLAN: conditions in order, then variants, problems, samples."""
        parts = [self._condition_rows(index) for index in range(len(self.conditions))]
        condition, variant, problem, sample, key = (np.concatenate(column) for column in zip(*parts, strict=True))
        return pa.table(
            {
                "stage": self.conditions["stage"].combine_chunks().take(condition),
                "condition": self.conditions["condition"].combine_chunks().take(condition),
                "variant": pa.array(self.variants).take(variant),
                "problem": pa.array(self.problems).take(problem),
                "sample": sample,
                "key": keys.take(key),
            },
            schema=PLAN,
        )

    def _condition_rows(self, condition: int) -> tuple[np.ndarray, ...]:
        """Row numbers of condition, variant, problem, sample and key of one condition's rows."""
        stage = self.conditions["stage"][condition].as_py()
        axes = np.meshgrid(self.variants_of[stage], self.problems_of[stage], range(self.samples), indexing="ij")
        variant, problem, sample = (axis.ravel().astype(np.int32) for axis in axes)
        cell = self.number[problem * len(self.variants) + variant, self.treatment_of[condition]]
        return np.full(len(variant), condition, np.int32), variant, problem, sample, cell * self.samples + sample

    def work(self, config: Config, keys: pa.Array, digests: bytes) -> pa.Table:
        """Schema WORK: the first row of each key."""
        problem = self.prompt // len(self.variants)
        streams = np.array(self.streams, dtype=np.uint64)[problem].ravel()
        table = pa.table({
            "key": keys,
            "kind": pa.repeat("completion", len(keys)).dictionary_encode(),
            "token": pa.nulls(len(keys), pa.int32()),
            "target": pa.nulls(len(keys), pa.int32()),
            "spec": pa.nulls(len(keys), _TEXT),
            "prompt": pa.array(np.repeat(self.prompt, self.samples), pa.int32()),
            "intervention": self._of_treatments("intervention"),
            "positions": self._of_treatments("positions"),
            "stream": np.zeros_like(streams) if config.sampling.greedy else streams,
            "max_new_tokens": pa.array(np.full(len(keys), config.sampling.max_new_tokens), pa.int32()),
        }, schema=WORK)  # fmt: skip
        return table.take(_first_of_each(digests)) if config.sampling.greedy else table

    def _of_treatments(self, field: str) -> pa.DictionaryArray:
        index = pa.array(np.repeat(self.treatment, self.samples), pa.int32())
        return pa.DictionaryArray.from_arrays(index, pa.array([getattr(one, field) for one in self.treatments]))


def _hexadecimal(digests: bytes) -> pa.Array:
    """Digests laid end to end -> strings, without a Python object for each of a million."""
    width, count = 2 * KEY_BYTES, len(digests) // KEY_BYTES
    offsets = np.arange(count + 1, dtype=np.int64) * width
    kind = pa.large_string()
    return pa.Array.from_buffers(
        kind, count, [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(digests.hex().encode())]
    )


def _first_of_each(digests: bytes) -> np.ndarray:
    """Row numbers of the first row of each digest, in order.

    Cells never share a key where rows draw, for the stream tells problems and samples apart. Under greedy decoding two
    problems that are one prompt do.
    """
    halves = np.frombuffer(digests, dtype=[("high", "<u8"), ("low", "<u8")])
    _, first = np.unique(halves, return_index=True)
    return np.sort(first)
