"""Trigger displacement over whole completions: which phrases come and go under a condition."""

from raybt.report.families import Family, families
from raybt.report.figures.change_lanes import MOST, change_lanes
from raybt.report.figures.drawing import Drawing
from raybt.report.results import Results, TableRow, is_baseline
from raybt.report.shown import left_out
from raybt.report.wording import plain

COLUMNS = [
    "stage", "condition", "variant", "tier", "phrase", "done", "completions",
    *[f"{stem}{part}" for stem in ("rate", "difference") for part in ("", "_low", "_high")],
]  # fmt: skip

CAPTION = (
    "How many more or fewer completions hold each phrase than under the baseline, in percentage points; bars are 95% "
    "intervals, clustered by problem. Each panel is a condition. Filled circles are strict triggers, which count as "
    "backtracking, hollow ones relaxed triggers, squares other words that were watched. If one phrase goes and another "
    "comes (left and right of the zero line), the model has changed its words, not its ways. Percentages in the "
    "margin are the baseline's rates; phrases that no completion holds are left out. A condition marked as collapsed "
    "allows no claim."
)


def draw(results: Results) -> list[Drawing]:
    found = ((family, _treated(family)) for family in families(results, "phrases", COLUMNS, MOST))
    return [_drawing(family, treated) for family, treated in found if treated]


def _treated(family: Family) -> dict[str, list[TableRow]]:
    """Conditions with their changes; phrases that occur nowhere are left out."""
    there = {row["phrase"] for row in family.rows if row["completions"]}
    parts = family.by_condition.items() if not family.merged else ()
    treated = {
        name: [row for row in rows if row["phrase"] in there] for name, rows in parts if not is_baseline(rows[0])
    }
    return {family.called(name): rows for name, rows in treated.items() if rows}


def _drawing(family: Family, treated: dict[str, list[TableRow]]) -> Drawing:
    before = {row["phrase"]: row["rate"] for row in family.rows if is_baseline(row)}
    return Drawing(
        name=f"phrases_{family.name}",
        title=f"Which phrases come and go, {family.where}",
        caption=CAPTION,
        alt=plain(f"Change of each phrase's rate by condition, {family.where}. Every value is in the phrases table."),
        figure=change_lanes(treated, before),
        data=family.data,
        note=left_out(family.hidden),
    )
