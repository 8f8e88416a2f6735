"""What a run is, as frozen data: the shape of a config file."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

BASELINE = "baseline"  # the empty intervention; no subset may take its name
SHIPPED = "raybt-toy"  # names the model and the problems that ship with raybt

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a scale must be a finite number; use 0 for ablation, 1 for no change")
    return value


Scale = Annotated[float, AfterValidator(_finite)]


class Section(BaseModel):
    """Frozen, and strict about names: an unknown key is a mistake, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)


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
    fields: Fields = Fields()


class Prompt(Section):
    system: str | None = None
    template: str | None = None
    """Text with `{question}`; null uses the model's chat template with the question as the user's turn."""
    chat: bool | None = None
    """Send the filled template through the model's chat template; null: only where `template` is null."""
    variants: dict[Name, str | None] = {"default": None}
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
    priority: Literal["earliest", "listed"] = "earliest"
    """Which match is the onset: the earliest in the text, or the first in the list that occurs at all."""
    case_sensitive: bool = True

    @model_validator(mode="after")
    def _check(self):
        phrases = (*self.strict, *self.relaxed)
        if not self.strict or not all(phrase.strip() for phrase in phrases):
            raise ValueError("triggers.strict needs at least one phrase, and no phrase may be blank; add or remove one")
        if len(set(phrases)) < len(phrases):
            raise ValueError("a trigger phrase is listed twice; relaxed already includes strict; remove one")
        return self


DIRECTED = ("mean", "resample", "add", "project_out", "clamp")  # operations that need a vector


class Vectors(Section):
    """A named set of vectors, one for each site (a table of them for `resample`)."""

    kind: Literal["file", "mean", "resample", "difference", "random"]
    """`file`: a safetensors file, tensors named by site. The others `raybt vectors` makes from the run's own baseline
    completions: `mean` of a site's outputs at the tokens that were written; `resample`: `rows` of these outputs;
    `difference` of means between positions at onsets and the same positions in completions without one;
    `random`: directions with the norms of the set `like`, as controls."""
    path: str | None = None
    """The file of `file`."""
    rows: int = Field(default=256, ge=2)
    """Outputs that `resample` keeps of each site."""
    window: tuple[int, int] = (-1, 0)
    """Positions of `difference`, counted from the onset's first token, last excluded. -1 is the position that
    predicts that token."""
    like: Name | None = None
    """The set whose norms `random` takes."""
    seed: int = 0
    """Of the draws of `resample`, `random`, and of the controls of `difference`."""

    @model_validator(mode="after")
    def _check(self):
        for kind, field in (("file", "path"), ("random", "like")):
            if (self.kind == kind) != (getattr(self, field) is not None):
                raise ValueError(f"`{field}` belongs to vectors of kind {kind}, and is needed there; got {self.kind}")
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window goes from a lower offset to a higher, last excluded; got {list(self.window)}")
        return self


class Grid(Section):
    subsets: tuple[Name, ...] = Field(min_length=1)
    """Names of subsets to intervene on."""
    operation: Literal["scale", "zero", "mean", "resample", "add", "project_out", "clamp"] = "scale"
    """What is done to a site's output x, with strength s, vector v and u = v / |v|. `scale`: x s. `zero`: 0. `mean` and
    `resample`: x + s (v - x). `add`: x + s v. `project_out`: x - s (x.u) u. `clamp`: x + (s - x.u) u."""
    scales: tuple[Scale, ...] = Field(default=(0.0,), min_length=1)
    """Factors of `scale` on the outputs of the subset's sites: 0 removes them, 1 changes nothing."""
    strengths: tuple[Scale, ...] = ()
    """Strengths of the other operations; none is needed for `zero`, and 1 stands for `mean`, `resample` and
    `project_out` where none is given."""
    vectors: Name | None = None
    """The set of vectors that the operation uses; `scale` and `zero` use none."""
    variants: tuple[Name, ...] | None = None
    """Prompt variants to cross with; null takes all."""
    positions: Literal["decode", "generated", "prompt", "all", "after_trigger"] = "decode"
    """Input positions at which the intervention is on. `decode`: every step but the first (N tokens, N-1 touched
    steps); `generated`: every step; `prompt`: the prompt's tokens; `all`: prompt and every step; `after_trigger`: the
    steps of `window` after each strict trigger."""
    window: tuple[int, int] | None = None
    """Steps of `after_trigger`, last excluded, counted from the one that reads the trigger's last token."""

    @model_validator(mode="after")
    def _check(self):
        self._check_operation()
        for label in ("subsets", "scales", "strengths", "variants"):
            values = getattr(self, label) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{label} lists a value twice: {list(values)}; remove one")
        if (self.positions == "after_trigger") != (self.window is not None):
            raise ValueError("`window` belongs to positions after_trigger, and is needed there; for example [0, 16]")
        if self.window is not None and not 0 <= self.window[0] < self.window[1]:
            raise ValueError(f"window goes from a step of 0 or more to a later one; got {list(self.window)}")
        return self

    def _check_operation(self):
        if (self.operation in DIRECTED) != (self.vectors is not None):
            raise ValueError(
                f"operation {self.operation} with vectors {self.vectors}: {', '.join(DIRECTED)} need `vectors`, the "
                "others take none; add or remove it"
            )
        if self.operation != "scale" and self.scales != (0.0,):
            raise ValueError(f"`scales` belongs to operation scale; give {self.operation} `strengths` instead")
        if self.operation in ("scale", "zero") and self.strengths:
            raise ValueError(f"`strengths` belongs to operations with vectors; {self.operation} takes none; remove it")
        if self.operation in ("add", "clamp") and not self.strengths:
            raise ValueError(f"operation {self.operation} needs `strengths`; for example [4, 8]")

    @property
    def doses(self) -> tuple[float, ...]:
        """Factors or strengths, whichever the operation takes."""
        if self.operation == "scale":
            return self.scales
        return (0.0,) if self.operation == "zero" else self.strengths or (1.0,)


class Interventions(Section):
    subsets: dict[Name, tuple[str, ...]] = {}
    """Name -> sites: `mlp.19`, `resid.20`, `head.3.5`, ranges `mlp.19-27`, all of a kind `attn.*`."""
    vectors: dict[Name, Vectors] = {}
    """Name -> vectors for the operations that need them."""
    grids: dict[Name, Grid] = {}
    """Stage name -> conditions: subsets x scales x variants, each with the baseline beside them."""

    @model_validator(mode="after")
    def _check(self):
        for name, sites in self.subsets.items():
            if name == BASELINE:
                raise ValueError("`baseline` is the name of the empty intervention; give the subset another name")
            if not sites:
                raise ValueError(f"subset {name} is empty; name at least one site, for example mlp.19")
        for name, grid in self.grids.items():
            for subset in grid.subsets:
                if subset not in self.subsets:
                    hint = _nearest(subset, self.subsets)
                    raise ValueError(f"grid {name} names subset {subset}, which is not defined{hint}")
            if grid.vectors is not None and grid.vectors not in self.vectors:
                hint = _nearest(grid.vectors, self.vectors)
                raise ValueError(f"grid {name} names vectors {grid.vectors}, which are not defined{hint}")
        for name, made in self.vectors.items():
            if made.like is not None and made.like not in self.vectors:
                hint = _nearest(made.like, self.vectors)
                raise ValueError(f"vectors {name} are like {made.like}, which are not defined{hint}")
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
    replicas: Replicas = Replicas()

    @model_validator(mode="after")
    def _check(self):
        for name, grid in self.interventions.grids.items():
            for variant in grid.variants or ():
                if variant not in self.prompt.variants:
                    hint = _nearest(variant, self.prompt.variants)
                    raise ValueError(f"grid {name} names variant {variant}, which is not defined{hint}")
        return self


def _nearest(name: str, known) -> str:
    from difflib import get_close_matches

    match = get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]}?" if match else f"; defined are: {', '.join(known) or 'none'}"
