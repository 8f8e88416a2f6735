"""What the report may say of the conditions: which qualify, which collapsed, which can't be judged."""

from raybt.report.controlled import objections
from raybt.report.findings import INCOMPLETE, LOWERS, RAISES, finding_of
from raybt.report.results import (
    Results,
    TableRow,
    is_baseline,
    is_collapsed,
    named,
    rows_of,
    several_stages,
    study_rows,
)
from raybt.report.wording import (
    code,
    count,
    is_missing,
    listed,
    percent_with_bounds,
    points,
    probability_in_words,
    spelled,
)

MOST_NAMED = 4  # longer lists are for the tables
SPARED = "with no measured loss of accuracy"
HARMED = "at a cost in accuracy, so more than backtracking depends on what was changed"
UNCONTROLLED = "but no claim rests on it, for want of an effect larger than that of random controls"
NONE_QUALIFIES = (
    "No condition qualifies: none changes the onset rate beyond what chance allows (Holm-corrected){controls} while "
    "accuracy holds. Nothing here shows that backtracking, rather than the model's work at large, depends on the sites "
    "that were tried."
)
CONTROLLED = ", and by more than random controls do,"


def qualifying(results: Results) -> list[str]:
    """Which conditions change the onset rate of a model that still works, or that none does; a paragraph a claim."""
    rows = [row for row in rows_of(results.conditions) if not is_baseline(row)]
    if not rows:
        return ["Only the baseline was run, so there is nothing to compare it with yet."]
    if all(finding_of(row) == INCOMPLETE for row in rows):
        return ["No condition can be judged yet."]
    objected = objections(results)
    sound = [row for row in rows if _place(row) not in objected]
    spared, harmed = _by_harm(sound, _contrasts(results))
    claims = [
        _claim(results, part, finding, verb, tail)
        for part, tail in ((spared, SPARED), (harmed, HARMED))
        for finding, verb in ((LOWERS, "lower"), (RAISES, "raise"))
    ]
    if not any(finding_of(row) in (LOWERS, RAISES) for row in spared):
        claims.insert(0, NONE_QUALIFIES.format(controls=CONTROLLED if has_controls(results) else ""))
    return [claim for claim in (*claims, _uncontrolled(results, rows, objected)) if claim]


def has_controls(results: Results) -> bool:
    return bool(study_rows(results, "controls"))


def _uncontrolled(results: Results, rows: list[TableRow], objected: dict[tuple, str]) -> str:
    """Changes that random controls of the same size bring about as well."""
    found = [row for row in rows if _place(row) in objected and finding_of(row) in (LOWERS, RAISES)]
    if not found:
        return ""
    said = [f"{name}: {objected[_place(row)]}" for row, name in _once_each(found, results)]
    return f"{_subject(found, 'changes', 'change')} the onset rate, {UNCONTROLLED}: {some(said, '; ')}."


def _by_harm(rows: list[TableRow], contrasts: dict[tuple, TableRow]) -> tuple[list[TableRow], list[TableRow]]:
    """Rows whose accuracy holds, and rows whose whole accuracy interval lies below the baseline."""
    harmed = [row for row in rows if _falls(contrasts.get(_identity(row, "accuracy_all")))]
    return [row for row in rows if row not in harmed], harmed


def _falls(accuracy: TableRow | None) -> bool:
    """Not collapsed is not unharmed."""
    return accuracy is not None and not is_missing(accuracy["high"]) and accuracy["high"] < 0


def _claim(results: Results, rows: list[TableRow], finding: str, verb: str, tail: str) -> str:
    found = [row for row in rows if finding_of(row) == finding]
    if not found:
        return ""
    contrasts = _contrasts(results)
    found.sort(key=lambda row: -abs(contrasts.get(_identity(row, "onset_rate"), {}).get("difference", 0)))
    effects = [_effect(row, where, contrasts) for row, where in _once_each(found, results)]
    return f"{_subject(found, f'{verb}s', verb)} the onset rate {tail}: {some(effects, '; ')}."


def _contrasts(results: Results) -> dict[tuple, TableRow]:
    return {_identity(row, row["measure"]): row for row in rows_of(results.contrasts)}


def _effect(row: TableRow, name: str, contrasts: dict[tuple, TableRow]) -> str:
    onset, accuracy = (contrasts.get(_identity(row, stem)) for stem in ("onset_rate", "accuracy_all"))
    if onset is None:
        return f"{name} (onset rate {percent_with_bounds(row, 'onset_rate')})"
    beside = f"; accuracy {_points_with_bounds(accuracy)}" if accuracy else ""
    return (
        f"{name} (onset rate {_points_with_bounds(onset)}, {probability_in_words('Holm p', onset['p_holm'])}{beside})"
    )


def _points_with_bounds(contrast: TableRow) -> str:
    said = f"{points(contrast['difference'])} percentage points"
    if is_missing(contrast["low"]) or is_missing(contrast["high"]):
        return said
    return f"{said}, 95% interval {points(contrast['low'])} to {points(contrast['high'])}"


def collapsed(results: Results) -> str:
    """The conditions that allow no claim; empty where there are none."""
    found = [row for row in rows_of(results.conditions) if is_collapsed(row)]
    if not found:
        return ""
    return (
        f"{_subject(found, 'has', 'have')} collapsed: {_places(found, results)}. The model is broken there, so whether "
        "it still writes a backtracking phrase is no evidence about backtracking, and no claim is made."
    )


def incomplete(results: Results) -> str:
    """The conditions that could not be judged; empty where there are none."""
    found = [row for row in rows_of(results.conditions) if finding_of(row) == INCOMPLETE]
    if not found:
        return ""
    return f"{_subject(found, 'has', 'have')} too few problems done to be judged: {_places(found, results)}."


def _subject(rows: list[TableRow], singular: str, plural: str) -> str:
    """Counts conditions, not the stages and variants that each stands in."""
    n = len({row["condition"] for row in rows})
    return f"{spelled(n, 'condition')} {singular if n == 1 else plural}"


def _places(rows: list[TableRow], results: Results) -> str:
    return some([where for _, where in _once_each(rows, results)])


def _once_each(rows: list[TableRow], results: Results) -> list[tuple[TableRow, str]]:
    """Each condition and variant once (its first row), named with all the stages that it stands in."""
    places: dict[str, list[TableRow]] = {}
    treated = (row for row in rows_of(results.conditions) if not is_baseline(row))
    variants = list(dict.fromkeys(row["variant"] for row in treated))
    for row in rows:
        places.setdefault(named(row, variants), []).append(row)
    return [(found[0], name + _stages(found, results)) for name, found in places.items()]


def _stages(rows: list[TableRow], results: Results) -> str:
    stages = [code(row["stage"]) for row in rows]
    return f" in stage{'s' * (len(stages) > 1)} {listed(stages)}" if several_stages(results) else ""


def some(items: list[str], separator: str = ", ") -> str:
    """The first few of a list, and how many more the tables hold."""
    rest = len(items) - MOST_NAMED
    if rest > 0:
        return f"{separator.join(items[:MOST_NAMED])}{separator}and {count(rest)} more in the tables"
    return listed(items) if separator == ", " else separator.join(items)


def _place(row: TableRow) -> tuple:
    return row["stage"], row["condition"], row["variant"]


def _identity(row: TableRow, measure: str) -> tuple:
    return *_place(row), measure
