"""Which sites of a scan are worth intervening on: those whose removal takes away the triggers and little else."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from raybt.plan.sites import order

QUALIFIES = "qualifies"
_MANY = {  # verdict of a site -> said of several, in the order of the verdicts
    "incomplete": "incomplete",
    "breaks the model": "break the model",
    "under the noise floor": "under the noise floor",
    "no evidence": "no evidence",
    "raises": "raise",
    "not specific": "not specific",
    QUALIFIES: "qualify",
}
_UNFIT = ("incomplete", "breaks the model", "under the noise floor")


@dataclass(frozen=True)
class Selection:
    """The sites chosen, best first; possibly none.

    Args:
        reason: one sentence: how many, by what, and what the others are.
        considered: sites of the scan that were looked at.
        rejected: verdict -> how many of the sites that were not eligible have it.
    """

    sites: tuple[str, ...]
    reason: str
    considered: int
    rejected: dict[str, int]


def choose_sites(
    scan: pd.DataFrame,
    top: int,
    *,
    stage: str,
    operation: str,
    kinds: Collection[str] | None = None,
    qualified: bool = True,
) -> Selection:
    """The best `top` sites of a scan, or as many as are eligible.

    Args:
        scan: rows of SCAN_TABLE, in any order.
        operation: whose effects count.
        kinds: kinds of site to choose among; None takes all.
        qualified: see `rank`.
    """
    looked_at = _asked(scan, stage, operation, kinds)
    ranked = rank(scan, stage=stage, operation=operation, kinds=kinds, qualified=qualified)
    others = Counter(looked_at["verdict"]) - Counter(ranked["verdict"])
    rejected = {verdict: others[verdict] for verdict in _MANY if verdict in others}
    sites = tuple(ranked["site"].head(top))
    return Selection(sites, _reason(len(sites), top, ranked, rejected, qualified), len(looked_at), rejected)


def rank(
    scan: pd.DataFrame, *, stage: str, operation: str, kinds: Collection[str] | None = None, qualified: bool = True
) -> pd.DataFrame:
    """Eligible rows of a scan, best first; of equals the one that stands first in the model's site order.

    Qualified: sites whose verdict is `qualifies`, by specific effect. Not qualified: all that do not break the model,
    stand above the noise floor and lower the trigger mass, by how much they lower it, as the study did: that a site
    qualifies by luck, or moves everything else as well, is then not excluded.
    """
    rows = _asked(scan, stage, operation, kinds)
    if qualified:
        eligible, by = rows[rows["verdict"] == QUALIFIES], "specific"
    else:
        eligible, by = rows[~rows["verdict"].isin(_UNFIT) & (rows["trigger_change"] < 0)], "trigger_change"
    merit = {site: (-value if qualified else value) for site, value in zip(eligible["site"], eligible[by], strict=True)}
    best_first = sorted(merit, key=lambda site: (merit[site], order(site)))
    return eligible.set_index("site", drop=False).loc[best_first].reset_index(drop=True)


def _asked(scan: pd.DataFrame, stage: str, operation: str, kinds: Collection[str] | None) -> pd.DataFrame:
    rows = scan.loc[(scan["stage"] == stage) & (scan["operation"] == operation)]
    return rows if kinds is None else rows.loc[rows["kind"].isin(list(kinds))]


def _reason(chosen: int, top: int, ranked: pd.DataFrame, rejected: dict[str, int], qualified: bool) -> str:
    what = "qualify" if qualified else "lower the trigger mass without breaking the model"
    counted = [f"{count} {verdict if count == 1 else _MANY[verdict]}" for verdict, count in rejected.items()]
    rest = ", ".join(counted) or "no site was measured"
    if not chosen:
        return f"none {'qualifies' if qualified else 'lowers the trigger mass without breaking the model'}: {rest}"
    if chosen < top:
        return f"all {chosen} that {what}, of {top} asked for" + (f": {rest}" if rejected else "")
    by = "specific effect" if qualified else "fall of trigger mass"
    return f"the best {chosen} by {by} of the {len(ranked)} that {what}"
