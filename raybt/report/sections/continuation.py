"""Continuation: what an intervention at the onset's step alone does to that step, and to what is written after it."""

from raybt.report.blocks import Block, Cell, Paragraph, Row, Table
from raybt.report.cells import change, columns, counts, nats, share, small, tests
from raybt.report.results import Results, TableRow, is_baseline, study_groups
from raybt.report.wording import (
    code,
    is_missing,
    percent,
    percent_with_bounds,
    plain,
    plural,
    points_in_words,
    probability_in_words,
)

NAMED = 3  # conditions in the lead
TOGETHER = ("(trigger set)", "(everything else)")  # lines of the words table that are no word


def blocks(results: Results) -> list[Block]:
    found = []
    for stage in _stages(results):
        steps, words, drawn = (_rows(results, name, stage) for name in ("steps", "words", "continuations"))
        said = (_steps(stage, steps), [*_gains(words)], [_stability(drawn), *_resampled(drawn)])
        found += [Paragraph(" ".join(sentences)) for sentences in said if any(sentences)]
        found += [_step_table(stage, steps)] * bool(steps) + [_drawn_table(stage, drawn)] * bool(drawn)
        found += [_word_table(stage, words)] * bool(words)
    return found


def _stages(results: Results) -> list[str]:
    names = (stage for name in ("steps", "continuations") for (stage,), _ in study_groups(results, name, "stage"))
    return list(dict.fromkeys(names))


def _rows(results: Results, name: str, stage: str) -> list[TableRow]:
    return next((rows for (found,), rows in study_groups(results, name, "stage") if found == stage), [])


def _steps(stage: str, rows: list[TableRow]) -> list[str]:
    """The conditions that take most mass from the triggers."""
    known = [row for row in rows if not is_missing(row["trigger_change"]) and not is_baseline(row)]
    if not known:
        return [f"Stage {code(stage)}: no onset is measured at its own step yet."]
    events = plural(max(int(row["done"]) for row in known), "onset")
    what = f"Stage {code(stage)}: at {events} the intervention was on at the onset's own step alone."
    return [what, *map(_step, _strongest(known))]


def _strongest(rows: list[TableRow]) -> list[TableRow]:
    return sorted(rows, key=lambda row: -abs(row["trigger_change"]))[:NAMED]


def _step(row: TableRow) -> str:
    return (
        f"Under {code(row['condition'])} the onset's token goes from a probability of "
        f"{percent(row['target_probability_baseline'])} to {percent(row['target_probability'])}, and all triggers "
        f"together from {percent(row['trigger_mass_baseline'])} to {percent(row['trigger_mass'])}, "
        f"{points_in_words(row, 'trigger_change', probability_in_words('Holm p', row['p_holm']))}."
    )


def _stability(rows: list[TableRow]) -> str:
    """How often the baseline does it again: what every change must be held against."""
    row = next((row for row in rows if is_baseline(row) and not is_missing(row["backtracks"])), None)
    if row is None:
        return "Continuations without intervention are not there, so how stable onsets are is not known." * bool(rows)
    return (
        f"How stable onsets are: from the same prefix with fresh noise the untouched model writes the same token in "
        f"{percent_with_bounds(row, 'same_token')} of {plural(int(row['done']), 'continuation')}, and backtracks "
        f"within them in {percent_with_bounds(row, 'backtracks')}."
    )


def _resampled(rows: list[TableRow]) -> list[str]:
    treated = [row for row in rows if not is_baseline(row) and not is_missing(row["difference"])]
    treated.sort(key=lambda row: -abs(row["difference"]))
    return [
        f"Under {code(row['condition'])} it still backtracks in {percent(row['backtracks'])}, "
        f"{points_in_words(row, 'difference', probability_in_words('Holm p', row['p_holm']))}."
        for row in treated[:NAMED]
    ]


def _gains(rows: list[TableRow]) -> list[str]:
    """The watched word that gains most under each of the first conditions."""
    found = []
    treated = [row for row in rows if not is_baseline(row)]
    for condition, part in list(_by_condition(treated).items())[:NAMED]:
        known = [row for row in part if row["word"] not in TOGETHER and not is_missing(row["change"])]
        most = max(known, key=lambda row: row["change"], default=None)
        if most is not None and most["change"] > 0:
            found.append(
                f"Of the watched words {code(most['word'])} gains most under {code(condition)}: from "
                f"{percent(most['mass_baseline'])} to {percent(most['mass'])}, {points_in_words(most, 'change')}."
            )
    return found


def _by_condition(rows: list[TableRow]) -> dict[str, list[TableRow]]:
    found: dict[str, list[TableRow]] = {}
    for row in rows:
        found.setdefault(row["condition"], []).append(row)
    return found


def _step_table(stage: str, rows: list[TableRow]) -> Table:
    heads = columns("Condition", numbers=(
        "Planned", "Done", "Failed", "Problems", "Onset token, before", "After", "All triggers, before", "After",
        "Change, points", "Onset token, nats", "p", "Holm p", "KL", "Noise floor",
    ))  # fmt: skip
    return Table(plain(f"Stage {stage}: the next token at the onset's step"), heads, tuple(map(_step_row, rows)))


def _step_row(row: TableRow) -> Row:
    before_after = ("target_probability_baseline", "target_probability", "trigger_mass_baseline", "trigger_mass")
    return Row((
        Cell(code(row["condition"])),
        *counts(row, "planned", "done", "failed", "problems"),
        *[Cell(percent(row[name])) for name in before_after],
        change(row, "trigger_change"),
        nats(row, "target_change"),
        *tests(row),
        small(row["kl"]),
        small(row["floor"]),
    ))  # fmt: skip


def _drawn_table(stage: str, rows: list[TableRow]) -> Table:
    heads = columns("Condition", numbers=(
        "Onsets", "Planned", "Done", "Failed", "Problems", "Same token", "Trigger at once", "Backtracks",
        "Difference, points", "p", "Holm p",
    ))  # fmt: skip
    return Table(plain(f"Stage {stage}: resampled continuations"), heads, tuple(map(_drawn_row, rows)))


def _drawn_row(row: TableRow) -> Row:
    cells = (
        Cell(code(row["condition"])),
        *counts(row, "events", "planned", "done", "failed", "problems"),
        *[share(row, name) for name in ("same_token", "at_once", "backtracks")],
        change(row, "difference"),
        *tests(row),
    )
    return Row(cells, "baseline" if is_baseline(row) else "")


def _word_table(stage: str, rows: list[TableRow]) -> Table:
    heads = columns("Condition", "Next word", numbers=("Done", "Problems", "Before", "After", "Change, points"))
    return Table(plain(f"Stage {stage}: where the probability goes"), heads, tuple(map(_word_row, rows)))


def _word_row(row: TableRow) -> Row:
    masses = [Cell(percent(row[name])) for name in ("mass_baseline", "mass")]
    names = (Cell(code(row["condition"])), Cell(plain(row["word"])))
    return Row((*names, *counts(row, "done", "problems"), *masses, change(row, "change")))
