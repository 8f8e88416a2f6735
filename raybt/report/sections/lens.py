"""Lens: from which layer on the onset can be read, and what the controls show there."""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import columns, counts, nats
from raybt.report.results import Results, TableRow, study_groups
from raybt.report.roles import ONSET, at, called
from raybt.report.wording import code, count, is_missing, listed, number, number_in_words, plain, plural


def blocks(results: Results) -> list[Block]:
    found = []
    for (stage,), rows in study_groups(results, "lens", "stage"):
        roles = {role: [row for row in rows if row["role"] == role] for role in dict.fromkeys(r["role"] for r in rows)}
        found += [Paragraph(_lead(stage, roles)), _table(stage, roles)]
    return found


def _lead(stage: str, roles: dict[str, list[TableRow]]) -> str:
    onsets = roles.get(ONSET, [])
    if not onsets or is_missing(onsets[-1]["place"]):
        return f"Stage {code(stage)}: no onset is measured yet."
    last, first = onsets[-1], onsets[0]
    others = [f"{number(rows[-1]['log_probability'], 2)} {at(role)}" for role, rows in roles.items()
              if role != ONSET and not is_missing(rows[-1]["place"])]  # fmt: skip
    beside = f"; the same token has {listed(others)}" if others else ""
    return (
        f"Stage {code(stage)}: at {plural(int(last['done']), 'onset')} in {plural(int(last['problems']), 'problem')} "
        f"the onset's token has a log-probability of {number_in_words(first, 'log_probability')} after "
        f"{code(first['place'])} and {number_in_words(last, 'log_probability')} after the last "
        f"layer{beside}. {_parting(roles)}"
    )


def _parting(roles: dict[str, list[TableRow]]) -> str:
    """The place from which on the onset's interval lies above those of all its controls."""
    controls = [{row["place"]: row for row in rows} for role, rows in roles.items() if role != ONSET]
    if not controls:
        return "There are no controls to compare it with."
    above = [all(_is_above(row, others.get(row["place"])) for others in controls) for row in roles[ONSET]]
    if not above[-1]:
        return "Nowhere does it stand apart from its controls for good."
    start = len(above) - next((i for i, apart in enumerate(reversed(above)) if not apart), len(above))
    return f"From {code(roles[ONSET][start]['place'])} on its interval lies above those of its controls."


def _is_above(row: TableRow, other: TableRow | None) -> bool:
    if other is None or is_missing(row["log_probability_low"]) or is_missing(other["log_probability_high"]):
        return False
    return row["log_probability_low"] > other["log_probability_high"]


def _table(stage: str, roles: dict[str, list[TableRow]]) -> Table:
    heads = columns("Events", numbers=(
        "Planned", "Done", "Failed", "Problems", "Log-probability, first place", "Log-probability, last place",
        "Logit, last place", "Rank, last place", "First token at",
    ))  # fmt: skip
    rows = tuple(_row(role, rows) for role, rows in roles.items())
    return Table(plain(f"Stage {stage}: the lens at its ends (every place is in tables/lens.parquet)"), heads, rows)


def _row(role: str, rows: list[TableRow]) -> Row:
    first, last = rows[0], rows[-1]
    top = next((row for row in rows if not is_missing(row["rank"]) and row["rank"] == 0), None)
    return Row((
        Cell(called(role)),
        *counts(last, "planned", "done", "failed", "problems"),
        nats(first, "log_probability"),
        nats(last, "log_probability"),
        nats(last, "logit"),
        Cell(count(last["rank"])),
        Cell(code(top["place"]) if top else "nowhere"),
    ))  # fmt: skip
