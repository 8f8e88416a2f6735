"""What can be decided from the waves that are complete: events, controls, sites, and the search's rungs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import pandas as pd

from raybt.config import Config, Found, Grid, Lens, Measured, Scan, Search, found_in
from raybt.plan.model_facts import ModelFacts
from raybt.store.schemas.study import SCAN_TABLE
from raybt.study.controls import matched_subsets
from raybt.study.decisions import Decision, Decisions, content_of
from raybt.study.events import Event, choose_events, match_controls
from raybt.study.layout import Families, find_families, first_candidates
from raybt.study.search import Candidate, Goal, after_rung, confirmation, tally, winner
from raybt.study.select import choose_sites
from raybt.study.split import in_half


class Finished(Protocol):
    """Tables of what is complete; each method gives None while rows that it needs are missing."""

    def graded(self, variant: str, problems: Sequence[str]) -> pd.DataFrame | None:
        """Baseline rows with their grades and tokens: GRADES columns, variant, problem, sample, onset_token_id,
        token_ids."""
        ...

    def scanned(self, stage: str) -> pd.DataFrame | None:
        """SCAN_TABLE of a scan stage."""
        ...

    def estimates(self, stage: str) -> pd.DataFrame | None:
        """One row a candidate of a search's stage, columns as in SEARCH_TABLE."""
        ...


class Nothing:
    """Before the first wave: only what follows from the config and the seed can be decided."""

    def graded(self, variant: str, problems: Sequence[str]) -> None:
        return None

    def scanned(self, stage: str) -> None:
        return None

    def estimates(self, stage: str) -> None:
        return None


NOTHING = Nothing()


def decide(
    config: Config, facts: ModelFacts, decided: Decisions, problems: Sequence[str], finished: Finished
) -> list[Decision]:
    """Everything that is not decided yet and can be."""
    if not config.stages and not any(grid.controls for grid in config.interventions.grids.values()):
        return []
    halves = {"all": tuple(problems)}
    for which in ("select", "confirm") if config.stages else ():
        halves[which] = in_half(problems, config.seed, config.problems.select, which)
    found = [*_sites(config, decided, finished), *_events(config, decided, halves, finished)]
    families = find_families(config, facts, decided.with_more(found))
    found += _controls(config, facts, families, decided)
    found += _rungs(config, families, decided, finished)
    return found


def _events(config: Config, decided: Decisions, halves: dict, finished: Finished) -> Iterator[Decision]:
    for name, stage in config.stages.items():
        if not isinstance(stage, Measured) or f"events:{name}" in decided:
            continue
        problems = halves[stage.problems]
        grades = finished.graded(stage.variant or next(iter(config.prompt.variants)), problems)
        if grades is not None:
            yield _choose(name, stage, grades, problems, config.seed)


def _choose(name: str, stage: Measured, grades: pd.DataFrame, problems: Sequence[str], seed: int) -> Decision:
    onsets = choose_events(grades, limit=stage.events, per_problem=stage.per_problem, seed=seed, problems=problems)
    events, unmatched = list(onsets), {}
    if isinstance(stage, (Lens, Scan)):
        tokens = dict(zip(grades["key"], grades["token_ids"], strict=True))
        target = "onset" if isinstance(stage, Lens) else "written"
        matched = match_controls(onsets, grades, tokens, seed=seed, problems=problems, target=target)
        events += matched.events
        unmatched = {role: len(ids) for role, ids in matched.unmatched.items()}
    there = int(grades["onset_strict"].sum())
    reason = f"{len(onsets)} of {there} onsets in {len({event.problem for event in onsets})} problems"
    lost = ", ".join(f"{count} without a {role} control" for role, count in unmatched.items() if count)
    made_from = content_of(sorted(zip(grades["key"], grades["onset_token"].astype(str), strict=True)))
    value = {"events": [_plain(event) for event in events], "unmatched": unmatched}
    return Decision(f"events:{name}", value, reason + (f"; {lost}" if lost else ""), made_from)


def _plain(event: Event) -> dict[str, Any]:
    return asdict(event)


def _sites(config: Config, decided: Decisions, finished: Finished) -> Iterator[Decision]:
    for name, subset in config.interventions.subsets.items():
        asked = found_in(subset)
        if not asked or f"sites:{name}" in decided:
            continue
        tables = {found.from_: _scanned(found.from_, decided, finished) for found in asked}
        if all(table is not None for table in tables.values()):
            chosen = [_chosen(found, tables[found.from_]) for found in asked]
            sites = list(dict.fromkeys(site for selection in chosen for site in selection.sites))
            made_from = content_of([table.to_json() for table in tables.values() if table is not None])
            yield Decision(f"sites:{name}", sites, "; ".join(one.reason for one in chosen), made_from)


def _scanned(stage: str, decided: Decisions, finished: Finished) -> pd.DataFrame | None:
    """A scan's table; without a row where the model never backtracked, so that nothing is there to be scanned."""
    if decided.value(f"events:{stage}") is not None and not decided.value(f"events:{stage}")["events"]:
        return SCAN_TABLE.empty_table().to_pandas()
    return finished.scanned(stage)


def _chosen(found: Found, table: pd.DataFrame | None):
    assert table is not None
    how = {"stage": found.from_, "operation": found.operation, "kinds": found.kinds, "qualified": found.qualified}
    return choose_sites(table, found.top, **how)


def _controls(config: Config, facts: ModelFacts, families: Families, decided: Decisions) -> Iterator[Decision]:
    """Drawn once for each subset that is known, from the seed alone."""
    wanted: dict[str, int] = {}
    for grid in config.interventions.grids.values():
        for member in _members(grid, families) if grid.controls else ():
            wanted[member] = max(wanted.get(member, 0), grid.controls)
    for member, count in wanted.items():
        if f"controls:{member}" not in decided:
            target = families.sites[member]
            drawn = matched_subsets(target, facts.n_layers, facts.n_heads, seed=config.seed, count=count)
            value = {"subsets": [list(sites) for sites in drawn.subsets], "exist": drawn.exist}
            reason = f"{len(drawn.subsets)} of {drawn.exist:,} random subsets matched in number, kind and depth"
            yield Decision(f"controls:{member}", value, reason, content_of(target, config.seed, count))


def _members(grid: Grid, families: Families) -> list[str]:
    return [member for name in grid.subsets for member in families.members.get(name, ())]


def _rungs(config: Config, families: Families, decided: Decisions, finished: Finished) -> Iterator[Decision]:
    for name, search in config.stages.items():
        if isinstance(search, Search) and all(one in families.members for one in search.subsets):
            decision = _next_rung(name, search, families, decided, finished)
            if decision is not None:
                yield decision


def _next_rung(
    name: str, search: Search, families: Families, decided: Decisions, finished: Finished
) -> Decision | None:
    """The decision after the first rung that has none, or after the confirmation."""
    candidates: Sequence[Candidate] = first_candidates(search, families)
    for rung in range(1, search.rungs + 1):
        decision = decided.value(f"search:{name}:{rung}")
        if decision is None:
            return _after_rung(name, search, rung, candidates, finished)
        candidates = [Candidate(**one) for one in decision["survivors"]]
    if not candidates or f"confirm:{name}" in decided:
        return None
    estimates = finished.estimates(f"{name}.confirm")
    if estimates is None:
        return None
    text, confirmed = confirmation(estimates.iloc[0].to_dict(), goal_of(search))
    value = {"candidate": asdict(candidates[0]), "confirmed": confirmed}
    return Decision(f"confirm:{name}", value, text, content_of(estimates.to_json()))


def search_ended(name: str, rungs: int, decided: Decisions) -> bool:
    """Whether there is a confirmation, or nobody was left to be confirmed."""
    last = decided.value(f"search:{name}:{rungs}")
    return f"confirm:{name}" in decided or (last is not None and not last["survivors"])


def goal_of(search: Search) -> Goal:
    return Goal(search.reduce, search.margin)


def _after_rung(
    name: str, search: Search, rung: int, candidates: Sequence[Candidate], finished: Finished
) -> Decision | None:
    if not candidates:
        none = "none within the margin: no candidate is left" if rung > 1 else "no candidate: no scan found a site"
        return Decision(f"search:{name}:{rung}", {"survivors": [], "dropped": []}, none, content_of([]))
    estimates = finished.estimates(f"{name}.rung{rung}")
    if estimates is None:
        return None
    made_from, goal = content_of(estimates.to_json()), goal_of(search)
    if rung < search.rungs:
        found = after_rung(estimates, candidates, goal=goal, keep=search.keep)
        dropped = [{**asdict(one), "why": why} for one, why in sorted(found.dropped.items())]
        value = {"survivors": [asdict(one) for one in found.survivors], "dropped": dropped}
        reason = f"{len(found.survivors)} of {len(candidates)} candidates go on: {tally(estimates, goal)}"
        return Decision(f"search:{name}:{rung}", value, reason, made_from)
    best = winner(estimates, goal)
    value = {"survivors": [asdict(best)] if best else [], "dropped": []}
    said = f"{best.subset} at scale {best.scale:g}" if best else "none within the margin"
    return Decision(f"search:{name}:{rung}", value, f"{said}: {tally(estimates, goal)}", made_from)
