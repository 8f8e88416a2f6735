"""Where the probability goes when an intervention is on at the onset's step alone."""

from raybt.config import BASELINE
from raybt.report.figures.change_lanes import MOST, change_lanes
from raybt.report.figures.drawing import Drawing
from raybt.report.results import Results, TableRow, is_baseline, select, study_groups
from raybt.report.wording import plain

COLUMNS = [
    "stage", "condition", "word", "done", "problems", "mass_baseline", "mass", "change", "change_low", "change_high",
]  # fmt: skip
TRIGGER_SET = "(trigger set)"

CAPTION = (
    "Where the probability goes: at each onset, the intervention is applied at that one step, and the change of the "
    "probability of each watched word as the next word is shown in percentage points, averaged over onsets; bars are "
    "95% intervals, clustered by problem. Each panel is a condition. Percentages in the margin are the words' "
    "probabilities without intervention; all backtracking words together are one line (circle). What they lose, others "
    "gain: a near neighbour such as “but” means the turn is worded differently, plain continuations mean it is dropped."
)


def draw(results: Results) -> list[Drawing]:
    stages = study_groups(results, "words", "stage")
    return [_drawing(results, stage, rows) for (stage,), rows in stages if not all(map(is_baseline, rows))]


def _drawing(results: Results, stage: str, rows: list[TableRow]) -> Drawing:
    names = [name for name in dict.fromkeys(row["condition"] for row in rows) if name != BASELINE]
    treated = {name: [_as_phrase(row) for row in rows if row["condition"] == name] for name in names[:MOST]}
    rest = len(names) - MOST
    more = f"The first {MOST} conditions are drawn; the CSV beside the figure has {rest} more." if rest > 0 else ""
    return Drawing(
        name=f"words_{stage}",
        title=f"Where the probability goes at the onset's step, stage {plain(stage)}",
        caption=CAPTION,
        alt=plain(
            f"Change of each word's probability at the onset's step, stage {stage}. Every value is in the table."
        ),
        figure=change_lanes(treated, {row["word"]: row["mass_baseline"] for row in rows}),
        data=select(results.study["words"], "stage", stage).loc[:, COLUMNS],
        note=more,
    )


def _as_phrase(row: TableRow) -> TableRow:
    tier = "strict" if row["word"] == TRIGGER_SET else "alternative"
    bounds = {f"difference{part}": row[f"change{part}"] for part in ("", "_low", "_high")}
    return {"phrase": row["word"], "tier": tier, **bounds}
