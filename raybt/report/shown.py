"""Which conditions a figure shows where there are more than a reader could tell apart."""

from raybt.report.results import TableRow, baseline_of, is_baseline, is_collapsed
from raybt.report.wording import is_missing, plural


def furthest(rows: list[TableRow], most: int) -> tuple[list[TableRow], int]:
    """The baseline and the `most` others whose onset rates lie furthest from its own, in the table's order, and how
    many are left out. Collapsed conditions, which allow no claim, go first."""
    others = [row for row in rows if not is_baseline(row)]
    if len(others) <= most:
        return rows, 0
    baseline = baseline_of(rows)
    start = 0.0 if baseline is None or is_missing(baseline["onset_rate"]) else baseline["onset_rate"]
    kept = sorted(others, key=lambda row: _distance(row, start))[:most]
    names = {row["condition"] for row in kept}
    return [row for row in rows if is_baseline(row) or row["condition"] in names], len(others) - most


def left_out(n: int) -> str:
    """A figure's note; empty where all is shown. Assumes the figure's data hold every row."""
    if not n:
        return ""
    return (
        f"{plural(n, 'condition')} that collapsed, or whose onset rate lies nearer to the baseline's, "
        f"{'is' if n == 1 else 'are'} not drawn; the CSV beside the figure holds every row."
    )


def _distance(row: TableRow, start: float) -> tuple[bool, float]:
    rate = row["onset_rate"]
    return is_collapsed(row) or is_missing(rate), 0.0 if is_missing(rate) else -abs(rate - start)
