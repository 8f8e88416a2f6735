"""What is done to the model: subsets of sites, vectors, and the grids that cross them with doses."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from raybt.config.base import Name, Scale, Section, check_no_repeats, nearest

BASELINE = "baseline"  # the empty intervention; no subset may take its name
Half = Literal["all", "select", "confirm"]
Kind = Literal["attn", "mlp", "resid", "head"]


class Found(Section):
    """Sites that a scan finds: the best that qualify. There may be fewer than asked for, and none."""

    from_: Name = Field(alias="from")
    """Name of the scan stage."""
    top: int = Field(default=6, ge=1)
    """How many, by specific effect."""
    kinds: tuple[Kind, ...] | None = Field(default=None, min_length=1)
    """Kinds of site to choose among; null takes all that the scan has."""
    operation: Literal["zero", "mean"] = "zero"
    """Whose effects rank them."""
    qualified: bool = True
    """Only sites whose effect is real and specific. false ranks all that do not break the model by how much trigger
    mass falls, as the study did: for comparison, not for claims."""


class Each(Section):
    """A family of subsets: each of these sites alone."""

    each: tuple[str, ...] = Field(min_length=1)


class Cumulative(Section):
    """A family of subsets: the best site that a scan found, the best two, and so on."""

    cumulative: Found


def _item_form(value) -> str:
    return "site" if isinstance(value, str) else "found"


def _listed(value):
    """One item stands for a list of it."""
    alone = isinstance(value, (str, Found)) or (isinstance(value, dict) and not {"each", "cumulative"} & set(value))
    return [value] if alone else value


def _form(value) -> str:
    for form, section in (("each", Each), ("cumulative", Cumulative)):
        if isinstance(value, section) or (isinstance(value, dict) and form in value):
            return form
    return "sites"


Item = Annotated[Annotated[str, Tag("site")] | Annotated[Found, Tag("found")], Discriminator(_item_form)]
Sites = Annotated[tuple[Item, ...], BeforeValidator(_listed, json_schema_input_type=Item | tuple[Item, ...])]
Subset = Annotated[
    Annotated[Sites, Tag("sites")] | Annotated[Each, Tag("each")] | Annotated[Cumulative, Tag("cumulative")],
    Discriminator(_form),
]


def found_in(subset: Subset) -> tuple[Found, ...]:
    """What a subset asks of scans."""
    if isinstance(subset, Each):
        return ()
    items = (subset.cumulative,) if isinstance(subset, Cumulative) else subset
    return tuple(item for item in items if isinstance(item, Found))


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
    controls: int = Field(default=0, ge=0)
    """Random subsets to run beside each subset, matched in number, kind and depth; all that exist where fewer do."""
    directions: int = Field(default=0, ge=0)
    """Random directions to add at each subset's sites instead, as long as what the intervention takes away there."""
    problems: Half | None = None
    """Half of the problems to run on. null: all, but `confirm` where a subset comes from a scan, which used the
    others."""
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
            check_no_repeats(label, getattr(self, label))
        if self.directions and self.operation not in ("scale", "zero"):
            raise ValueError(
                f"`directions` belongs to operations scale and zero, whose loss a direction can match; got "
                f"{self.operation}; remove it, or use vectors of kind random"
            )
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
    subsets: dict[Name, Subset] = Field(default={})
    """Name -> sites: `mlp.19`, `resid.20`, `head.3.5`, ranges `mlp.19-27`, all of a kind `attn.*`, and what a scan
    finds: `{from: scan, top: 6}`. `{each: [mlp.*]}` is a family, every site alone; `{cumulative: {from: scan, top: 6}}`
    another: the best, the best two, ..."""
    vectors: dict[Name, Vectors] = Field(default={})
    """Name -> vectors for the operations that need them."""
    grids: dict[Name, Grid] = Field(default={})
    """Stage name -> conditions: subsets x scales x variants, each with the baseline beside them."""

    @model_validator(mode="after")
    def _check(self):
        for name, sites in self.subsets.items():
            if name == BASELINE:
                raise ValueError("`baseline` is the name of the empty intervention; give the subset another name")
            if sites == ():
                raise ValueError(f"subset {name} is empty; name at least one site, for example mlp.19")
        for name, grid in self.grids.items():
            for subset in grid.subsets:
                if subset not in self.subsets:
                    hint = nearest(subset, self.subsets)
                    raise ValueError(f"grid {name} names subset {subset}, which is not defined{hint}")
            if grid.vectors is not None and grid.vectors not in self.vectors:
                hint = nearest(grid.vectors, self.vectors)
                raise ValueError(f"grid {name} names vectors {grid.vectors}, which are not defined{hint}")
        for name, made in self.vectors.items():
            if made.like is not None and made.like not in self.vectors:
                hint = nearest(made.like, self.vectors)
                raise ValueError(f"vectors {name} are like {made.like}, which are not defined{hint}")
        return self
