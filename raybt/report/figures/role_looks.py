"""How onsets and their controls look wherever they are drawn together."""

from raybt.report.figures.style import SERIES, Look

_LOOKS = {
    "onset": Look("#0072B2", "o", 4.5, "-"),
    "position": Look("#D55E00", "s", 4.2, (0, (5, 1.5))),
    "context": Look("#007a59", "^", 4.6, (0, (1.2, 1.2))),
}


def look_of(role: str) -> Look:
    return _LOOKS.get(role, SERIES[3])
