"""What a search and its decisions leave behind."""

import math

from tests.report.estimates import around


def search(outcome="confirmed"):
    """Three rungs, then the winner on the other half of the problems; `none`: no candidate within the goals."""
    rows = []
    left = [("late", s) for s in (0.0, 0.5, 0.75)] + [("early", s) for s in (0.0, 0.5, 0.75)] + [("top2", 0.0)]
    for rung, problems in enumerate((8, 16, 32), 1):
        found = [_candidate(rung, problems, *candidate, costly=outcome == "none") for candidate in left]
        left = [left[0], left[1], left[6]] if rung == 1 else left[:2] if rung == 2 else left[: outcome != "none"]
        kept = {f"{subset}@{scale:g}" for subset, scale in left}
        rows += [row | ({"verdict": "goes on"} if row["condition"] in kept else {}) for row in found]
    if outcome != "none":
        row = _candidate(0, 40, "late", 0.0)
        rows.append(row | {"phase": "confirm", "verdict": "confirmed" if outcome == "confirmed" else "not confirmed"})
    return rows


def _candidate(rung, problems, subset, scale, costly=False):
    early = subset == "early" or costly
    onset = -0.3 * (1 - scale) * (1.1 if early else 1.0)
    accuracy = (-0.5 if early else -0.02) * (1 - scale)
    broken = subset == "early" and scale == 0
    within = not early and scale < 0.5
    reach = 0.35 / math.sqrt(problems / 8) / 2
    return (
        {"stage": "search", "phase": "select", "rung": rung, "condition": f"{subset}@{scale:g}"}
        | {"subset": subset, "scale": scale, "n_sites": 2, "problems": problems, "pairs": 4 * problems, "pairs_lost": 1}
        | {"onset_rate_baseline": 0.43, "onset_rate": 0.43 + onset}
        | around("onset_difference", onset, reach)
        | around("accuracy_difference", accuracy, reach)
        | {"reduction": -onset / 0.43, "accuracy_baseline": 0.86, "accuracy": 0.86 + accuracy, "collapsed": broken}
        | {"within": within, "on_front": not early}
        | {"verdict": "collapsed" if broken else "within both goals" if within else "cuts too little"}
    )


GOAL = {"search": {"kind": "search", "rungs": 3, "reduce": 0.5, "margin": 0.05}}


def decisions(confirmed=None):
    rows = [
        {"name": "sites:targeted", "value": '["mlp.3"]', "reason": "the best 1 by specific effect", "made_from": "9f"},
        {"name": "controls:targeted", "value": '{"exist":20}', "reason": "drawn once <b>", "made_from": "a0"},
    ]
    if confirmed is not None:
        value = f'{{"candidate":{{"subset":"late"}},"confirmed":{str(confirmed).lower()}}}'
        reason = "confirmed: falls by 70%" if confirmed else "not confirmed: accuracy may fall by 9.1 points"
        rows.append({"name": "confirm:search", "value": value, "reason": reason, "made_from": "b1"})
    return rows
