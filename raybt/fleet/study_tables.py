"""The tables of what a study's stages measured and decided."""

import pandas as pd
import pyarrow as pa

from raybt.config import BASELINE, Search
from raybt.fleet.joining import events_of, of_keys, planned_rows, tokens_of, with_grades
from raybt.measure.study.continuation import continuations_table
from raybt.measure.study.controls import controls_table
from raybt.measure.study.lens import attribution_table, lens_table
from raybt.measure.study.scan import scan_table
from raybt.measure.study.search import candidates, search_table
from raybt.measure.study.steps import steps_table, words_table
from raybt.measure.study.variants import variants_table
from raybt.plan.rows import Plan
from raybt.store.folder import RunFolder
from raybt.store.shards import LENSED, SCANNED, Done, read_rows
from raybt.study.decide import goal_of
from raybt.study.decisions import Decisions
from raybt.study.search import judged

Tables = dict[str, pa.Table]


def measure_study(plan: Plan, decided: Decisions, folder: RunFolder, there: Done, summaries: Tables) -> Tables:
    """Every study table; those of stages that the config does not have are empty.

    Args:
        summaries: the tables of all families.
    """
    rows = plan.measurements.to_pandas()
    kinds = {kind: rows.loc[rows["kind"] == kind] for kind in ("lens", "scan", "step", "continuation")}
    lenses = _measured(folder, there, LENSED, kinds["lens"])
    scans = _measured(folder, there, SCANNED, pd.concat([kinds["scan"], kinds["step"]]))
    words = list(plan.config.triggers.alternatives)
    return {
        "lens": lens_table(kinds["lens"], lenses),
        "attribution": attribution_table(kinds["lens"], lenses),
        "scan": scan_table(kinds["scan"], scans),
        "steps": steps_table(kinds["step"], scans),
        "words": words_table(kinds["step"], scans, words),
        "continuations": _continuations(folder, there, kinds["continuation"]),
        "controls": _controls(plan, summaries),
        "variants": _variants(plan, folder, there),
        "search": _search(plan, decided, summaries),
    }


def _measured(folder: RunFolder, there: Done, kind: str, rows: pd.DataFrame) -> pa.Table:
    return of_keys([read_rows(folder, kind, there.measured[kind])], rows["key"])


def _continuations(folder: RunFolder, there: Done, rows: pd.DataFrame) -> pa.Table:
    graded = with_grades(folder, there.shards, rows.loc[:, ["key"]].drop_duplicates())
    graded = graded.loc[graded["verdict"].notna()]
    tokens = tokens_of(folder, there.shards, graded["key"])
    graded = graded.assign(first_token=[tokens[key][0] for key in graded["key"]])
    return continuations_table(rows, graded, events_of(folder, there.shards, rows["key"]))


def _controls(plan: Plan, summaries: Tables) -> pa.Table:
    facts = plan.conditions.select(["condition", "sites"]).to_pylist()
    sites_of = {row["condition"]: row["sites"] for row in facts}
    return controls_table(summaries["conditions"].to_pandas(), summaries["contrasts"].to_pandas(), sites_of)


def _variants(plan: Plan, folder: RunFolder, there: Done) -> pa.Table:
    """Of the first stage whose baseline stands under every variant."""
    rows = planned_rows(plan, there)
    rows = rows.loc[rows["condition"] == BASELINE].drop_duplicates(["variant", "problem", "sample"])
    return variants_table(with_grades(folder, there.shards, rows))


def _search(plan: Plan, decided: Decisions, summaries: Tables) -> pa.Table:
    conditions, contrasts = (summaries[name].to_pandas() for name in ("conditions", "contrasts"))
    parts = []
    for name, search in plan.config.stages.items():
        if isinstance(search, Search):
            for stage, phase, rung in _phases(name, search.rungs, decided):
                estimates = candidates(
                    conditions.loc[conditions["stage"] == stage], contrasts.loc[contrasts["stage"] == stage]
                )
                if len(estimates):
                    parts.append(_told(name, judged(estimates, goal_of(search)), phase, rung, decided))
    return search_table(pd.concat(parts)) if parts else search_table(pd.DataFrame())


def _phases(name: str, rungs: int, decided: Decisions) -> list[tuple[str, str, int]]:
    """(stage of the plan, phase, rung); a rung that is not decided yet is not whole, so it is left out."""
    there = [rung for rung in range(1, rungs + 1) if f"search:{name}:{rung}" in decided]
    return [*((f"{name}.rung{rung}", "select", rung) for rung in there), (f"{name}.confirm", "confirm", 0)]


def _told(name: str, rows: pd.DataFrame, phase: str, rung: int, decided: Decisions) -> pd.DataFrame:
    """Estimates with what was decided of each candidate."""
    if phase == "confirm":
        value = decided.value(f"confirm:{name}") or {"confirmed": None}
        verdict = {True: "confirmed", False: "not confirmed", None: "not decided"}[value["confirmed"]]
        return rows.assign(stage=name, phase=phase, rung=rung, verdict=verdict)
    value = decided.value(f"search:{name}:{rung}") or {"survivors": [], "dropped": []}
    kept = {(one["subset"], one["scale"]) for one in value["survivors"]}
    why = {(one["subset"], one["scale"]): one["why"] for one in value["dropped"]}
    places = zip(rows["subset"], rows["scale"], strict=True)
    verdict = [
        "goes on" if place in kept else why.get(place, told)
        for place, told in zip(places, rows["verdict"], strict=True)
    ]
    return rows.assign(stage=name, phase=phase, rung=rung, verdict=verdict)
