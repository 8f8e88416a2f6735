"""A config with stages, and what is decided so far -> the layout that can be run now, and what still waits."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from raybt.config import BASELINE, Config, Cumulative, Each, Grid, Scan, Search, Subset, Vectors, found_in
from raybt.plan.layout import CONTROL, DIRECTION, Layout, Part, fixed_subsets
from raybt.plan.model_facts import ModelFacts
from raybt.plan.sites import NO_CHANGE, expand, order
from raybt.study.decisions import Decisions
from raybt.study.search import Candidate, first_rung, rung_problems
from raybt.study.split import in_half

OUTPUTS = 64
"""Outputs of a site whose mean length the random directions take."""


@dataclass(frozen=True)
class Families:
    """Every subset that is known, and the names that a subset of the config stands for.

    Args:
        sites: subset -> its sites.
        members: subset of the config -> the subsets it means: itself, or those of its family; none where a scan found
            nothing. A subset that waits for a scan is not here.
    """

    sites: dict[str, tuple[str, ...]] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)


def lay_out(
    config: Config, facts: ModelFacts, decided: Decisions, problems: Sequence[str], made: Collection[str]
) -> Layout:
    """What can be run now.

    Args:
        problems: ids of all problems.
        made: names of the sets of vectors that are there.

    Raises:
        UserError: a subset names a site that the model does not have, or a half of the problems is empty.
    """
    families = find_families(config, facts, decided)
    builder = _Builder(config, families, decided, problems, made)
    if config.stages:
        builder.parts.append(Part(BASELINE, None))
    for stage, grid in config.interventions.grids.items():
        builder.add_grid(stage, grid)
    for stage, search in config.stages.items():
        if isinstance(search, Search):
            builder.add_search(stage, search)
    if not builder.parts:
        builder.parts.append(Part(BASELINE, None))
    for stage, scan in config.stages.items():
        if isinstance(scan, Scan):
            sites = expand(scan.sites, facts.n_layers, facts.n_heads)  # a bad one is said before the first wave
            if "mean" in scan.operations:
                builder.use_means(stage, sites)
    return builder.layout()


def find_families(config: Config, facts: ModelFacts, decided: Decisions) -> Families:
    """Every subset whose sites are spelled out, or found by now."""
    families = Families(fixed_subsets(config, facts))
    families.members.update({name: (name,) for name in families.sites})
    for name, subset in config.interventions.subsets.items():
        if name not in families.members and (found_in(subset) == () or f"sites:{name}" in decided):
            members = dict(_members(name, subset, facts, decided.value(f"sites:{name}") or []))
            families.sites.update(members)
            families.members[name] = tuple(members)
    return families


def _members(name: str, subset: Subset, facts: ModelFacts, found: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(subset, sites) of each member. found: sites that scans chose, the best first."""
    if isinstance(subset, Each):
        for site in expand(subset.each, facts.n_layers, facts.n_heads):
            yield f"{name}.{site}", (site,)
    elif isinstance(subset, Cumulative):
        for count in range(1, len(found) + 1):
            yield f"{name}.top{count}", tuple(sorted(found[:count], key=order))
    else:
        patterns = [one for one in subset if isinstance(one, str)]
        spelled = expand(patterns, facts.n_layers, facts.n_heads) if patterns else ()
        if spelled or found:
            yield name, tuple(sorted({*spelled, *found}, key=order))


class _Builder:
    """Collects parts stage by stage."""

    def __init__(self, config: Config, families: Families, decided: Decisions, problems, made: Collection[str]):
        self.config, self.families, self.decided, self.made = config, families, decided, made
        self.halves = {"all": tuple(problems)}
        self.problems_of: dict[str, tuple[str, ...]] = {}
        self.subsets = dict(families.sites)
        self.vectors = dict(config.interventions.vectors)
        self.parts: list[Part] = []
        self.measured_at: dict[str, tuple[str, ...]] = {}
        self.waiting: dict[str, str] = {}

    def layout(self) -> Layout:
        return Layout(self.subsets, tuple(self.parts), self.problems_of, self.vectors, self.measured_at, self.waiting)

    def half(self, which: str) -> tuple[str, ...]:
        if which not in self.halves:
            config = self.config
            self.halves[which] = in_half(self.halves["all"], config.seed, config.problems.select, which)  # pyright: ignore
        return self.halves[which]

    def add_grid(self, stage: str, grid: Grid) -> None:
        """Targets that are known, then their controls that are drawn, then the directions whose vectors are there."""
        members = [member for name in grid.subsets for member in self.families.members.get(name, ())]
        unknown = [name for name in grid.subsets if name not in self.families.members]
        if unknown:
            self.waiting[stage] = f"the sites of {', '.join(unknown)}"
        which = grid.problems or ("confirm" if any(map(self._is_found, grid.subsets)) else "all")
        if which != "all":
            self.problems_of[stage] = self.half(which)
        members = tuple(dict.fromkeys(members))
        ready = self._vectors_ready(stage, grid, members)
        self.parts.append(Part(stage, grid.model_copy(update={"subsets": members if ready else ()})))
        for member in members if ready else ():
            if grid.controls:
                self._add_controls(stage, grid, member)
            if grid.directions:
                self._add_directions(stage, grid, member)

    def _vectors_ready(self, stage: str, grid: Grid, members: tuple[str, ...]) -> bool:
        """Whether a grid's vectors are there; else they are asked for, and its conditions wait."""
        name = grid.vectors
        if name is None or name in self.made or self.vectors[name].kind == "file":
            return True
        self.waiting[stage] = f"the vectors {name}"
        sites = {site for member in members for site in self.subsets[member]}
        self.measured_at[name] = tuple(sorted({*self.measured_at.get(name, ()), *sites}, key=order))
        return False

    def _is_found(self, subset: str) -> bool:
        return bool(found_in(self.config.interventions.subsets[subset]))

    def _add_controls(self, stage: str, grid: Grid, member: str) -> None:
        drawn = self.decided.value(f"controls:{member}")
        if drawn is None:
            self.waiting.setdefault(stage, f"the controls of {member}")
            return
        names = {f"{member}.control{number:02d}": tuple(sites) for number, sites in enumerate(drawn["subsets"], 1)}
        self.subsets.update(names)
        if names:
            self.parts.append(Part(stage, grid.model_copy(update={"subsets": tuple(names)}), CONTROL, member))

    def _add_directions(self, stage: str, grid: Grid, member: str) -> None:
        """A random direction at each of the target's sites, as long as what the intervention takes away there."""
        outputs = f"{member}.outputs"
        self.vectors[outputs] = Vectors(kind="resample", rows=OUTPUTS)
        for number in range(1, grid.directions + 1):
            name = f"{member}.direction{number:02d}"
            self.vectors[name] = Vectors(kind="random", like=outputs, seed=number)
            if name not in self.made:
                self.measured_at[name] = self.subsets[member]
                self.waiting.setdefault(stage, f"the vectors {name}")
                continue
            for dose in grid.doses:
                if dose != NO_CHANGE:
                    self.parts.append(Part(stage, _adding(grid, member, name, dose), DIRECTION, member, dose))

    def add_search(self, stage: str, search: Search) -> None:
        unknown = [name for name in search.subsets if name not in self.families.members]
        if unknown:
            self.waiting[stage] = f"the sites of {', '.join(unknown)}"
            return
        variant = search.variant or next(iter(self.config.prompt.variants))
        candidates: Sequence[Candidate] = first_candidates(search, self.families)
        for rung in range(search.rungs):
            if not candidates:
                return
            there = rung_problems(self.half("select"), rung, search.rungs, 1 / search.keep)
            self._add_candidates(f"{stage}.rung{rung + 1}", candidates, variant, there)
            decision = self.decided.value(f"search:{stage}:{rung + 1}")
            if decision is None:
                self.waiting[stage] = f"rung {rung + 1}"
                return
            candidates = [Candidate(**one) for one in decision["survivors"]]
        if candidates:
            self._add_candidates(f"{stage}.confirm", candidates, variant, self.half("confirm"))

    def _add_candidates(
        self, stage: str, candidates: Sequence[Candidate], variant: str, problems: tuple[str, ...]
    ) -> None:
        self.problems_of[stage] = problems
        for subset in dict.fromkeys(one.subset for one in candidates):
            scales = tuple(one.scale for one in candidates if one.subset == subset)
            self.parts.append(Part(stage, Grid(subsets=(subset,), scales=scales, variants=(variant,))))

    def use_means(self, stage: str, sites: tuple[str, ...]) -> None:
        """The mean output of every scanned site."""
        self.vectors[means_of(stage)] = Vectors(kind="mean")
        self.measured_at[means_of(stage)] = sites


def means_of(stage: str) -> str:
    """The set of vectors that a scan replaces outputs with."""
    return f"{stage}.means"


def first_candidates(search: Search, families: Families) -> tuple[Candidate, ...]:
    """Every known subset at every scale."""
    members = [member for name in search.subsets for member in families.members[name]]
    return first_rung({member: families.sites[member] for member in members}, search.scales)


def _adding(grid: Grid, member: str, vectors: str, dose: float) -> Grid:
    """What takes the place of scaling to `dose`: adding as much as that takes away."""
    update = {"subsets": (member,), "operation": "add", "vectors": vectors, "strengths": (abs(1 - dose),)}
    return grid.model_copy(update={**update, "scales": (0.0,)})
