"""What a run is, as frozen data: the shape of a config file."""

from typing import Literal

from pydantic import Field, model_validator

from raybt.config.base import Name, Section, nearest
from raybt.config.interventions import (
    BASELINE,
    DIRECTED,
    Cumulative,
    Each,
    Found,
    Grid,
    Half,
    Interventions,
    Subset,
    Vectors,
    found_in,
)
from raybt.config.stages import Continuation, Lens, Measured, Scan, Search, Stage

__all__ = [
    "BASELINE",
    "DIRECTED",
    "SHIPPED",
    "Config",
    "Continuation",
    "Cumulative",
    "Each",
    "Fields",
    "Found",
    "Grid",
    "Half",
    "Interventions",
    "Lens",
    "Measured",
    "Model",
    "Name",
    "Problems",
    "Prompt",
    "Replicas",
    "Sampling",
    "Scan",
    "Search",
    "Section",
    "Stage",
    "Subset",
    "Triggers",
    "Vectors",
    "found_in",
]

SHIPPED = "raybt-toy"  # names the model and the problems that ship with raybt


class Model(Section):
    name: str
    """Hub id, local folder, or `raybt-toy` for the small model that ships with raybt."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; resolved to a commit before the first row."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation in transformers."""
    trust_remote_code: bool = False
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    """How accelerate spreads a model that is larger than one GPU over a replica's GPUs (`replicas.gpus` above 1),
    memory and disk; null keeps it on one device. `device` is then not read."""


class Fields(Section):
    id: str | None = "id"
    """Field that holds a unique id; null takes the position in the file before shuffling."""
    question: str = "question"
    answer: str = "answer"
    """Field that holds the gold answer: a number, or a worked answer that ends in `#### number`."""


class Problems(Section):
    name: str
    """Hub id, local .jsonl or .parquet file, or `raybt-toy` for the shipped word problems."""
    subset: str | None = None
    """Configuration name of a hub data set (GSM8K: `main`)."""
    split: str = "test"
    revision: str | None = None
    limit: int | None = Field(default=None, ge=1)
    shuffle_seed: int | None = None
    """Shuffle before `limit` is applied; null keeps the file's order."""
    select: float = Field(default=0.5, gt=0, lt=1)
    """Share of the problems that scans and searches choose on; what they chose is tested on the others."""
    fields: Fields = Fields()


class Prompt(Section):
    system: str | None = None
    template: str | None = None
    """Text with `{question}`; null uses the model's chat template with the question as the user's turn."""
    chat: bool | None = None
    """Send the filled template through the model's chat template; null: only where `template` is null."""
    variants: dict[Name, str | None] = Field(default={"default": None})
    """Name -> think suffix that replaces the one the template ends with; null keeps the template's own."""

    @model_validator(mode="after")
    def _check(self):
        if self.template is not None and "{question}" not in self.template:
            raise ValueError("the template must contain {question}, or every problem gets the same prompt; add it")
        if not self.variants:
            raise ValueError("at least one variant is needed; remove the key to get the template's own suffix")
        return self

    @property
    def uses_chat(self) -> bool:
        return self.template is None if self.chat is None else self.chat


class Sampling(Section):
    samples: int = Field(default=1, ge=1)
    """Completions of each problem under each condition and variant."""
    max_new_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=0.7, gt=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """Keep the k most likely tokens; 0 keeps all."""
    greedy: bool = False

    @model_validator(mode="after")
    def _check(self):
        if self.greedy and self.samples > 1:
            raise ValueError(
                "greedy decoding writes one completion over and over; set samples to 1, or greedy to false"
            )
        return self


class Triggers(Section):
    strict: tuple[str, ...] = ("Wait", "Actually", "Hold on")
    """Phrases that count as backtracking, matched as whole words."""
    relaxed: tuple[str, ...] = ("Let me check", "Let's check", "I was wrong", "mistake")
    """Further phrases that count in the relaxed tier."""
    alternatives: tuple[str, ...] = ("But", "Hmm", "Alternatively", "However")
    """Words to watch besides, for what is written in a trigger's place; never an onset."""
    priority: Literal["earliest", "listed"] = "earliest"
    """Which match is the onset: the earliest in the text, or the first in the list that occurs at all."""
    case_sensitive: bool = True

    @model_validator(mode="after")
    def _check(self):
        phrases = (*self.strict, *self.relaxed, *self.alternatives)
        if not self.strict or not all(phrase.strip() for phrase in phrases):
            raise ValueError("triggers.strict needs at least one phrase, and no phrase may be blank; add or remove one")
        if len(set(phrases)) < len(phrases):
            raise ValueError("a trigger phrase is listed twice; relaxed already includes strict; remove one")
        return self


class Replicas(Section):
    count: int = Field(default=1, ge=1)
    """Model replicas, each a Ray actor."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs of each replica; null takes 1 where the cluster has GPUs, else 0."""
    cpus: float = Field(default=1, gt=0)
    """CPU cores of each replica, and its torch threads on the CPU."""
    slots: int | None = Field(default=None, ge=16)
    """Rows decoded side by side in a replica; 16 or more keep a row's logits independent of its neighbours. null takes
    64 on the CPU, and on a GPU as many as its free memory holds, up to 512."""


class Config(Section):
    """One run of raybt."""

    name: Name
    """Names the run's folder."""
    seed: int = 0
    artifacts: str = "artifacts"
    """Folder or URI (s3://, gs://) under which the run's folder is made."""
    model: Model
    problems: Problems
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()
    triggers: Triggers = Triggers()
    interventions: Interventions = Interventions()
    stages: dict[Name, Stage] = Field(default={})
    """Name -> what else the run does: `lens`, `scan`, `continuation`, `search`."""
    replicas: Replicas = Replicas()

    @property
    def continued(self) -> int:
        """Tokens that a stage may write after a completion's own: its longest continuation."""
        stages = [stage for stage in self.stages.values() if isinstance(stage, Continuation)]
        return max((stage.max_new_tokens for stage in stages), default=0)

    @model_validator(mode="after")
    def _check(self):
        grids, subsets = self.interventions.grids, self.interventions.subsets
        for name in self.stages:
            if name in grids:
                raise ValueError(f"stage {name} has the name of a grid; rename one")
        searches = [name for name, stage in self.stages.items() if isinstance(stage, Search)]
        self._check_names("a stage or grid", [*grids, *self.stages], searches)
        self._check_names("a subset", subsets, subsets)
        for name, grid in grids.items():
            self._check_variants(f"grid {name}", grid.variants or ())
        for name, stage in self.stages.items():
            self._check_variants(f"stage {name}", stage.prompt_variants)
            for subset in stage.named_subsets:
                if subset not in subsets:
                    raise ValueError(
                        f"stage {name} names subset {subset}, which is not defined{nearest(subset, subsets)}"
                    )
        self._check_found()
        if self.sampling.greedy and any(isinstance(stage, Continuation) for stage in self.stages.values()):
            raise ValueError(
                "a continuation stage draws again and again, which greedy decoding does not; set greedy to false"
            )
        return self

    def _check_names(self, what: str, names, makers):
        """raybt makes names of its own: `baseline`, and for the parts of a search or a subset `search.rung1`."""
        for name in names:
            if name == BASELINE:
                raise ValueError(f"{what} is called {name}, as the stage that every run begins with; rename it")
            maker = next((other for other in makers if name.startswith(f"{other}.")), None)
            if maker is not None:
                raise ValueError(f"{what} is called {name}, but names that begin with {maker}. are raybt's; rename it")

    def _check_variants(self, who: str, variants):
        for variant in variants:
            if variant not in self.prompt.variants:
                hint = nearest(variant, self.prompt.variants)
                raise ValueError(f"{who} names variant {variant}, which is not defined{hint}")

    def _check_found(self):
        scans = {name: stage for name, stage in self.stages.items() if isinstance(stage, Scan)}
        for name, subset in self.interventions.subsets.items():
            for found in found_in(subset):
                if found.from_ not in scans:
                    hint = nearest(found.from_, scans)
                    raise ValueError(f"subset {name} is from {found.from_}, which is no scan stage{hint}")
                there = {site.partition(".")[0] for site in scans[found.from_].sites}
                if found.kinds is not None and not there & set(found.kinds):
                    raise ValueError(
                        f"subset {name} is of kinds {', '.join(found.kinds)}, which scan {found.from_} has no site of; "
                        "add sites there, or change kinds"
                    )
                if found.operation not in scans[found.from_].operations:
                    raise ValueError(
                        f"subset {name} ranks by {found.operation}, which scan {found.from_} does not do; add it there"
                    )
