"""The words of the conditions table's `finding` column, and how the report says them."""

from raybt.report.results import TableRow, is_baseline, is_collapsed
from raybt.report.wording import is_missing, plain, text

LOWERS, RAISES, NO_EVIDENCE, INCOMPLETE = "lowers", "raises", "no evidence", "incomplete"
_SAID = {
    LOWERS: "lowers onsets",
    RAISES: "raises onsets",
    NO_EVIDENCE: "no evidence of a change",
    INCOMPLETE: "incomplete: not judged",
}


def finding_of(row: TableRow) -> str:
    """The finding a report may state: none of a collapsed condition, whatever the table says, none it can't read."""
    if is_baseline(row) or is_collapsed(row) or is_missing(row["finding"]):
        return ""
    return row["finding"] if row["finding"] in _SAID else ""


def said(row: TableRow) -> str:
    if is_baseline(row):
        return "reference"
    if is_collapsed(row):
        return "collapsed: no claim"
    return _SAID.get(finding_of(row), plain(text(row["finding"])))  # an unknown word is shown, never claimed
