"""Search: the smallest subset and mildest scale that cut backtracking at an acceptable price, and whether it holds."""

import re
from collections import Counter

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, counts
from raybt.report.results import Results, TableRow, is_collapsed, rows_of
from raybt.report.searched import CONFIRM, GOES_ON, Search, searches
from raybt.report.wording import (
    MINUS,
    code,
    compact,
    count,
    is_missing,
    listed,
    number,
    percent,
    plain,
    plural,
    points,
    points_in_words,
    text,
)

TOP = 20  # candidates of a rung
WITHIN = "within the accuracy margin"


def blocks(results: Results) -> list[Block]:
    found = []
    for search in searches(results):
        found += [Paragraph(headline(search)), Paragraph(_course(search)), *_tables(search, results)]
    return found


def headlines(results: Results) -> list[str]:
    """A sentence or more for each search: the opening begins with them."""
    return [headline(search) for search in searches(results)]


def headline(search: Search) -> str:
    if search.confirmation is not None:
        return _confirmation(search, search.confirmation)
    place = f"The search {code(search.stage)}"
    if not search.has_ended:
        return f"{place} has not ended: {len(search.rungs)} of {text(search.planned)} rungs are judged."
    if any(row["verdict"] == GOES_ON for row in search.rungs[-1]):
        return f"{place} has a winner that is not confirmed yet, so nothing is claimed of it."
    front = [row for row in search.rungs[-1] if row["on_front"] is True]
    nearest = f" The front of the last rung: {listed(map(_traded, front))}." if front else ""
    return (
        f"{place} found none within the margin: no candidate of its last rung {_goal(search)}. That is a result: what "
        f"was tried does not cut backtracking alone.{nearest}"
    )


def _goal(search: Search) -> str:
    if search.reduce is None or search.margin is None:
        return "meets both goals"
    costs = f"costs at most {number(100 * search.margin)} points of accuracy"
    return f"cuts the onset rate by {percent(search.reduce)} or more and {costs}"


def _traded(row: TableRow) -> str:
    return (
        f"{code(row['condition'])} (onset rate {points(row['onset_difference'])}, accuracy "
        f"{points(row['accuracy_difference'])} points)"
    )


def _confirmation(search: Search, row: TableRow) -> str:
    verdict = {True: "is confirmed", False: "is not confirmed", None: "is not judged yet"}[search.confirmed]
    why = f": {_reason(search)}" if search.confirmed is False and ": " in search.reason else ""
    return (
        f"The search {code(search.stage)} chose {code(row['condition'])}, and on "
        f"{plural(int(row['problems']), 'problem')} that had no part in the choice it {verdict}{why}. There the onset "
        f"rate goes from {percent(row['onset_rate_baseline'])} to {percent(row['onset_rate'])}, "
        f"{points_in_words(row, 'onset_difference')}, {_cut(row)}, and accuracy from "
        f"{percent(row['accuracy_baseline'])} to {percent(row['accuracy'])}, "
        f"{points_in_words(row, 'accuracy_difference')}; "
        f"{plural(int(row['pairs']), 'pair')} of completions, {count(row['pairs_lost'])} lost."
    )


def _reason(search: Search) -> str:
    """What the decision says after the verdict, with the report's own minus."""
    return re.sub(r"(?<!\w)-(?=\d)", MINUS, plain(search.reason.partition(": ")[2]))


def _cut(row: TableRow) -> str:
    has_fallen = not is_missing(row["reduction"]) and row["reduction"] > 0
    return f"a cut by {percent(row['reduction'])}" if has_fallen else "no cut"


def _course(search: Search) -> str:
    first = search.rungs[0] if search.rungs else []
    rungs = [f"{plural(len(rows), 'candidate')} on {plural(_problems(rows), 'problem')}" for rows in search.rungs]
    verdicts = Counter(plain(text(row["verdict"])) for row in search.rungs[-1]) if search.rungs else Counter()
    last = listed(f"{n:,} “{verdict}”" for verdict, n in verdicts.most_common())
    goal = f"A candidate meets the goal if it {_goal(search)}. " if search.margin is not None else ""
    return (
        f"{goal}The search went from {plural(len(first), 'candidate')} through {plural(len(search.rungs), 'rung')}: "
        f"{listed(rungs)}. Of the last rung: {last}. A rung's numbers select and confirm nothing: the best of many is "
        "partly the luckiest."
    )


def _problems(rows: list[TableRow]) -> int:
    return max((int(row["problems"]) for row in rows if not is_missing(row["problems"])), default=0)


def _tables(search: Search, results: Results) -> list[Table]:
    """The confirmation, then the last rung first."""
    ran = {(row["stage"], row["condition"]): row for row in rows_of(results.conditions)}
    parts = [(f"rung {number}", rows, f"rung{number}") for number, rows in enumerate(search.rungs, 1)][::-1]
    if search.confirmation is not None:
        parts.insert(0, ("confirmation", [search.confirmation], CONFIRM))
    return [_table(search.stage, title, rows, place, ran) for title, rows, place in parts]


def _table(stage: str, title: str, rows: list[TableRow], place: str, ran: dict) -> Table:
    heads = columns("Candidate", numbers=(
        "Sites", "Scale", "Planned", "Done", "Failed", "Problems", "Pairs", "Lost", "Onset rate, points", "Cut by",
        "Accuracy, points",
    ), last=("On the front", "Verdict"))  # fmt: skip
    shown = sorted(rows, key=lambda row: row["verdict"] != GOES_ON)[:TOP]
    rest = len(rows) - len(shown)
    more = f" ({plural(rest, 'further candidate')} in tables/search.parquet)" if rest else ""
    rows_shown = tuple(_row(row, ran.get((f"{stage}.{place}", row["condition"]))) for row in shown)
    return Table(plain(f"Search {stage}, {title}{more}"), heads, rows_shown)


def _row(row: TableRow, ran: TableRow | None) -> Row:
    made = counts(ran, "planned", "done", "failed") if ran else (Cell("–"),) * 3
    cells = (
        Cell(code(row["condition"])),
        Cell(count(row["n_sites"])),
        Cell(compact(row["scale"])),
        *made,
        *counts(row, "problems", "pairs", "pairs_lost"),
        change(row, "onset_difference"),
        Cell(percent(row["reduction"])),
        change(row, "accuracy_difference"),
        Cell("yes" if row["on_front"] is True else ""),
        Cell(plain(text(row["verdict"]))),
    )
    return Row(cells, "collapsed" if is_collapsed(row) else "")
