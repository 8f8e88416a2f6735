"""A search for the smallest subset and mildest scale, put together from its table, its decisions and the config."""

import json
import re
from dataclasses import dataclass
from typing import Any

from raybt.report.results import Results, TableRow, groups, rows_of, study_groups
from raybt.report.wording import text

CONFIRM, GOES_ON = "confirm", "goes on"  # a phase; the verdict on a candidate that its rung keeps
_PART = re.compile(r"\.(rung\d+|confirm)$")  # a search's completions stand in stages `<name>.rung1`, ...


@dataclass(frozen=True)
class Search:
    """`confirmed` and `reason` are None and empty until the confirmation was judged.

    Args:
        has_ended: whether the last rung was judged, which it was too where nobody was left for it.
    """

    stage: str
    rungs: list[list[TableRow]]  # the candidates of each, in the table's order
    planned: int | None  # rungs
    confirmation: TableRow | None
    confirmed: bool | None
    reason: str
    reduce: float | None  # share of the onset rate that must go
    margin: float | None  # accuracy that may be lost
    has_ended: bool


def searches(results: Results) -> list[Search]:
    return [_search(results, stage, rows) for (stage,), rows in study_groups(results, "search", "stage")]


def search_stages(results: Results) -> set[str]:
    """Stages of the conditions table that hold a search's rows, which select and so allow no claim."""
    stages = results.config.get("stages") or {}
    names = {name for name, stage in stages.items() if stage.get("kind") == "search"}
    names |= {search.stage for search in searches(results)}
    return {
        stage for (stage,), _ in groups(results.conditions, "stage") if _PART.search(stage) and _base(stage) in names
    }


def _base(stage: str) -> str:
    return _PART.sub("", stage)


def _search(results: Results, stage: str, rows: list[TableRow]) -> Search:
    settings = (results.config.get("stages") or {}).get(stage) or {}
    rungs: dict[int, list[TableRow]] = {}
    for row in rows:
        if row["phase"] != CONFIRM:
            rungs.setdefault(int(row["rung"]), []).append(row)
    confirmation = next((row for row in rows if row["phase"] == CONFIRM), None)
    confirmed, reason = _verdict(results, stage, confirmation)
    return Search(
        stage=stage,
        rungs=[rungs[rung] for rung in sorted(rungs)],
        planned=settings.get("rungs"),
        confirmation=confirmation,
        confirmed=confirmed,
        reason=reason,
        reduce=settings.get("reduce"),
        margin=settings.get("margin"),
        has_ended=_has_ended(results, stage, len(rungs), settings.get("rungs")),
    )


def _has_ended(results: Results, stage: str, rungs: int, planned: int | None) -> bool:
    if planned is not None and _decision(results, f"search:{stage}:{planned}") is not None:
        return True
    return rungs > 0 and (planned is None or rungs >= planned)


def _verdict(results: Results, stage: str, row: TableRow | None) -> tuple[bool | None, str]:
    """As decided; where no decision was kept, as the table has it."""
    decided = _decision(results, f"confirm:{stage}")
    if decided is not None:
        return bool(json.loads(decided["value"])["confirmed"]), text(decided["reason"], "")
    known = {"confirmed": True, "not confirmed": False}
    return (None, "") if row is None else (known.get(row["verdict"]), text(row["verdict"], ""))


def _decision(results: Results, name: str) -> dict[str, Any] | None:
    rows = [] if results.decisions is None else rows_of(results.decisions)
    return next((row for row in rows if row["name"] == name), None)
