"""Scan: which sites carry the backtracking words at the position before an onset, and which break the model."""

from collections import Counter

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, counts, nats, small, tests
from raybt.report.claims import some
from raybt.report.results import Results, TableRow, study_groups
from raybt.report.scanned import BREAKS, QUALIFIES
from raybt.report.wording import code, is_missing, listed, number_in_words, percent, plain, plural, points, spelled

TOP, BROKEN = 12, 6  # rows of the ranking and of the sites that break the model
DONE_TO_SITES = {"zero": "removed", "mean": "set to its mean"}


def blocks(results: Results) -> list[Block]:
    found = []
    for (stage,), rows in study_groups(results, "scan", "stage"):
        sites = [row for row in rows if not is_missing(row["site"])]
        sites.sort(key=lambda row: float("inf") if is_missing(row["specific"]) else -row["specific"])
        parts = {name: [row for row in sites if row["operation"] == name] for name in _operations(rows)}
        found += [
            Paragraph(_lead(stage, rows, parts)),
            *(Paragraph(_found(name, part)) for name, part in parts.items()),
        ]
        found += [_table(stage, name, part) for name, part in parts.items()]
    return found


def _operations(rows: list[TableRow]) -> list[str]:
    return list(dict.fromkeys(row["operation"] for row in rows if not is_missing(row["operation"])))


def _lead(stage: str, rows: list[TableRow], parts: dict[str, list[TableRow]]) -> str:
    planned, done = (max(int(row[name]) for row in rows) for name in ("planned", "done"))
    if not parts:
        return f"Stage {code(stage)} planned {plural(planned, 'onset')} and none is measured yet."
    sites = len({row["site"] for part in parts.values() for row in part})
    problems = max(int(row["problems"]) for row in rows)
    return (
        f"Stage {code(stage)}: at {plural(done, 'onset')} of {planned:,} planned, in {plural(problems, 'problem')}, "
        f"each of {plural(sites, 'site')} was changed at the one position before the onset."
    )


def _found(operation: str, rows: list[TableRow]) -> str:
    good = [row for row in rows if row["verdict"] == QUALIFIES]
    broken = [row for row in rows if row["verdict"] == BREAKS]
    how = DONE_TO_SITES.get(operation, operation)
    if good:
        said = f"{spelled(len(good), 'site')} {'qualifies' if len(good) == 1 else 'qualify'} where the site is {how}: "
        said += some([_effect(row) for row in good], "; ") + "."
    else:
        said = f"No site qualifies where the site is {how}."
    names = some([code(row["site"]) for row in broken])
    breaks = f" {spelled(len(broken), 'site')} {'breaks' if len(broken) == 1 else 'break'} the model: {names}."
    return said + breaks * bool(broken) + _others(rows)


def _effect(row: TableRow) -> str:
    return (
        f"{code(row['site'])} with a specific effect of {number_in_words(row, 'specific', 'nats')}, and "
        f"{points(row['trigger_change'])} percentage points of the mass of all triggers"
    )


def _others(rows: list[TableRow]) -> str:
    others = Counter(row["verdict"] for row in rows if row["verdict"] not in (QUALIFIES, BREAKS))
    return f" The others: {listed(f'{n:,} {plain(verdict)}' for verdict, n in others.items())}." if others else ""


def _table(stage: str, operation: str, rows: list[TableRow]) -> Table:
    """The top of the ranking, then what breaks the model."""
    sound = [row for row in rows if row["verdict"] != BREAKS]
    broken = [row for row in rows if row["verdict"] == BREAKS]
    shown = [*sound[:TOP], *broken[:BROKEN]]
    rest = len(rows) - len(shown)
    more = f" (top of the ranking; {plural(rest, 'further row')} in tables/scan.parquet)" if rest else ""
    heads = columns("Site", numbers=(
        "Planned", "Done", "Failed", "Controls", "Problems", "Specific effect, nats", "Trigger mass, points",
        "Onset token, nats", "p", "Holm p", "KL, of it triggers", "Next token kept at controls",
        "Noise floor",
    ))  # fmt: skip
    return Table(plain(f"Stage {stage}, {operation}: sites by specific effect{more}"), heads, tuple(map(_row, shown)))


def _row(row: TableRow) -> Row:
    cells = (
        Cell(code(row["site"]), plain(row["verdict"])),
        *counts(row, "planned", "done", "failed", "controls", "problems"),
        nats(row, "specific"),
        change(row, "trigger_change"),
        nats(row, "target_change"),
        *tests(row),
        Cell(small(row["kl"]).text, small(row["kl_trigger"]).text),
        Cell(percent(row["control_agreement"])),
        small(row["floor"]),
    )
    return Row(cells, "collapsed" if row["verdict"] == BREAKS else "")
