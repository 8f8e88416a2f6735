"""Attribution: which components write the onset's token directly, beside what they do at controls."""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import columns, counts, nats
from raybt.report.results import Results, TableRow, study_groups
from raybt.report.roles import ONSET, at, called
from raybt.report.wording import code, is_missing, listed, number, number_in_words, plain, plural

TOP, NAMED = 10, 3


def blocks(results: Results) -> list[Block]:
    found = []
    for (stage,), rows in study_groups(results, "attribution", "stage"):
        parts: dict[str, dict[str, TableRow]] = {}
        for row in rows:
            parts.setdefault(row["component"], {})[row["role"]] = row
        found += [Paragraph(_lead(stage, parts)), _table(stage, parts)]
    return found


def _ranked(parts: dict[str, dict[str, TableRow]]) -> list[dict[str, TableRow]]:
    """By how much a component adds to the onset's logit, whichever way."""
    known = [roles for roles in parts.values() if ONSET in roles and not is_missing(roles[ONSET]["attribution"])]
    return sorted(known, key=lambda roles: -abs(roles[ONSET]["attribution"]))


def _lead(stage: str, parts: dict[str, dict[str, TableRow]]) -> str:
    ranked = _ranked(parts)
    if not ranked:
        return f"Stage {code(stage)}: no onset is measured yet."
    row = ranked[0][ONSET]
    apart = [roles for roles in ranked if _is_apart(roles)]
    own = (
        f" Apart from their controls, with intervals that do not meet, stand {'; '.join(map(_said, apart[:NAMED]))}."
        if apart
        else " None stands apart from its controls: the intervals meet."
    )
    return (
        f"Stage {code(stage)}: at {plural(int(row['done']), 'onset')} in {plural(int(row['problems']), 'problem')} "
        f"the largest direct effect on the onset's logit is that of {_said(ranked[0])}.{own}"
    )


def _is_apart(roles: dict[str, TableRow]) -> bool:
    """Whether the onset's interval meets those of none of its controls; not known without intervals."""
    row, others = roles[ONSET], [other for role, other in roles.items() if role != ONSET]
    return bool(others) and all(
        row["attribution_low"] > other["attribution_high"] or row["attribution_high"] < other["attribution_low"]
        for other in others
    )


def _said(roles: dict[str, TableRow]) -> str:
    row = roles[ONSET]
    others = [f"{number(other['attribution'], 2, '+')} {at(role)}" for role, other in roles.items()
              if role != ONSET]  # fmt: skip
    beside = f", against {listed(others)}" if others else ""
    return f"{code(row['component'])} {number_in_words(row, 'attribution')}{beside}"


def _table(stage: str, parts: dict[str, dict[str, TableRow]]) -> Table:
    roles = list(dict.fromkeys(role for found in parts.values() for role in found))
    titles = [title for role in roles for title in (f"{called(role)}, done", "Problems", "Adds to the logit")]
    ranked = _ranked(parts)
    rest = len(parts) - len(ranked[:TOP])
    more = f" (the largest; {plural(rest, 'further row')} in tables/attribution.parquet)" if rest else ""
    rows = tuple(_row(found, roles) for found in ranked[:TOP])
    caption = plain(f"Stage {stage}: direct effect on the event's logit{more}")
    return Table(caption, columns("Component", numbers=[title[:1].upper() + title[1:] for title in titles]), rows)


def _row(found: dict[str, TableRow], roles: list[str]) -> Row:
    cells = [cell for role in roles for cell in _cells(found.get(role))]
    return Row((Cell(code(found[ONSET]["component"])), *cells))


def _cells(row: TableRow | None) -> tuple[Cell, ...]:
    return (Cell("–"),) * 3 if row is None else (*counts(row, "done", "problems"), nats(row, "attribution"))
