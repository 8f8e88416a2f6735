"""Controls: is a target's effect larger than that of random subsets, or random directions, of the same size?"""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import columns
from raybt.report.claims import some
from raybt.report.controlled import AGAINST, EVIDENCE, beats, is_untestable
from raybt.report.results import CONTROL, DIRECTION, Results, TableRow, is_collapsed, is_control, rows_of, study_rows
from raybt.report.wording import (
    code,
    count,
    listed,
    number,
    percent,
    plain,
    plural,
    point_bounds,
    points,
    probability,
    text,
)

MEASURES = {"onset_rate": "Onset rate", "accuracy_all": "Accuracy, all"}
ROLES = {CONTROL: "matched random subset", DIRECTION: "random direction"}

_READING = (
    "p = (1 + as extreme) / (1 + controls): how often one of the target and its controls has an effect as large as the "
    "target's. Overlap is the mean share of the target's sites that a control has too."
)


def blocks(results: Results) -> list[Block]:
    rows = study_rows(results, "controls")
    planned = ran(results)
    if not rows:
        return [Paragraph(planned)] if planned else []
    return [
        Paragraph(" ".join(filter(None, (planned, _lead(rows, results))))),
        Paragraph(_READING),
        _table(rows, results),
    ]


def ran(results: Results) -> str:
    """One line on what stands in no other table: how many controls were planned, done and failed."""
    controls = [row for row in rows_of(results.conditions) if is_control(row)]
    if not controls:
        return ""
    kinds = [
        plural(len({(row["stage"], row["condition"]) for row in controls if row["role"] == role}), name)
        for role, name in ROLES.items()
        if any(row["role"] == role for row in controls)
    ]
    totals = {name: int(sum(row[name] for row in controls)) for name in ("planned", "done", "failed", "missing")}
    broken = sum(map(is_collapsed, controls))
    collapsed = f" Under {broken:,} of these {len(controls):,} the model collapsed."
    return (
        f"Beside the conditions ran {listed(kinds)} as controls: of {totals['planned']:,} planned completions "
        f"{totals['done']:,} are done, {totals['failed']:,} failed and {totals['missing']:,} are missing."
    ) + collapsed * bool(broken)


def _lead(rows: list[TableRow], results: Results) -> str:
    collapsed = _collapsed(results)
    sound = [row for row in rows if _place(row) not in collapsed and row["measure"] == "onset_rate"]
    return " ".join(filter(None, (_among(sound, against) for against in AGAINST)))


def _among(rows: list[TableRow], against: str) -> str:
    """Of the targets that did not collapse."""
    rows = [row for row in rows if row["against"] == against]
    if not rows:
        return ""
    better = [row for row in rows if beats(row)]
    names = some([f"{code(row['condition'])} (p = {probability(row['p'])})" for row in better])
    verb = "changes" if len(better) == 1 else "change"
    found = f"{len(better)} {verb}" if better else "none changes"
    return (
        f"Of {plural(len(rows), 'target')} that did not collapse, {found} the onset rate more than "
        f"{AGAINST[against]} do{f': {names}' * bool(better)}.{_too_few(rows)}"
    )


def _too_few(rows: list[TableRow]) -> str:
    n = sum(map(is_untestable, rows))
    return f" For {plural(n, 'target')} no p under {EVIDENCE:g} is possible, for want of controls." if n else ""


def _collapsed(results: Results) -> set[tuple]:
    return {_place(row) for row in rows_of(results.conditions) if is_collapsed(row)}


def _place(row: TableRow) -> tuple:
    return row["stage"], row["condition"], row["variant"]


def _table(rows: list[TableRow], results: Results) -> Table:
    collapsed = _collapsed(results)
    heads = columns("Target", "Measure", "Against", numbers=(
        "Effect, points", "Controls", "As extreme", "p", "Least p possible", "Controls' mean, range", "Overlap",
    ))  # fmt: skip
    return Table(
        "Targets among their random controls", heads, tuple(_row(row, _place(row) in collapsed) for row in rows)
    )


def _row(row: TableRow, collapsed: bool) -> Row:
    cells = (
        Cell(code(row["condition"]), plain(f"{row['stage']}, {row['variant']}") + ", collapsed" * collapsed),
        Cell(MEASURES.get(row["measure"], plain(text(row["measure"])))),
        Cell(AGAINST.get(row["against"], plain(text(row["against"])))),
        Cell(points(row["effect"])),
        Cell(count(row["controls"])),
        Cell(count(row["as_extreme"])),
        Cell(probability(row["p"])),
        Cell(number(row["p_floor"], 3)),
        Cell(points(row["mean"]), point_bounds(row["lowest"], row["highest"])),
        Cell(percent(row["overlap"])),
    )
    return Row(cells, "collapsed" if collapsed else "")
