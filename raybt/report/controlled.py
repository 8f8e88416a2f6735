"""What a target's random controls say of its effect on the onset rate."""

from raybt.report.results import Results, TableRow, study_rows
from raybt.report.wording import is_missing, probability_in_words

EVIDENCE = 0.05  # of p, the share of controls with an effect as large, the target counted among them
AGAINST = {"subsets": "matched random subsets", "directions": "random directions"}


def beats(row: TableRow) -> bool:
    return not is_missing(row["p"]) and row["p"] <= EVIDENCE


def is_untestable(row: TableRow) -> bool:
    """No control comes near, but there are too few of them for a p that would be evidence."""
    return not beats(row) and not is_missing(row["p"]) and row["as_extreme"] == 0


def objections(results: Results) -> dict[tuple, str]:
    """(stage, condition, variant) -> why its change of the onset rate is no claim; targets without any are not in."""
    found: dict[tuple, list[str]] = {}
    for row in study_rows(results, "controls"):
        if row["measure"] == "onset_rate" and not beats(row):
            found.setdefault((row["stage"], row["condition"], row["variant"]), []).append(_objection(row))
    return {place: " and ".join(dict.fromkeys(reasons)) for place, reasons in found.items()}


def _objection(row: TableRow) -> str:
    kind = AGAINST.get(row["against"], "controls")
    if is_missing(row["p"]):
        return f"its {kind} are not done"
    if is_untestable(row):
        return f"its {int(row['controls']):,} {kind} are too few to tell"
    return (
        f"the effect is no larger than that of {kind} ({int(row['as_extreme'])} of {int(row['controls'])} are as "
        f"extreme, {probability_in_words('p', row['p'])})"
    )
