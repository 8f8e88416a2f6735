"""Numbers as a reader sees them. Every function takes a table's value and returns text; missing values have words too.

Sentences are plain text with one convention: what stands between backticks is a name and set as code.
"""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

NOTHING = "–"
UNRECORDED = "not recorded"
MINUS = "\u2212"
_WORDS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and pandas' NA."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, Real) and value != value)
    )


def percent(rate: Any) -> str:
    """Share in 0..1 -> '43.2%'."""
    return NOTHING if is_missing(rate) else f"{_decimal(100 * rate)}%"


def bounds(low: Any, high: Any) -> str:
    """Shares in 0..1 -> '[35.0, 51.8]', in percent."""
    return NOTHING if is_missing(low) or is_missing(high) else f"[{_decimal(100 * low)}, {_decimal(100 * high)}]"


def percent_with_bounds(row: Any, stem: str) -> str:
    """'43.2% (95% interval 35.0 to 51.8)' from a table's row."""
    low, high = row[f"{stem}_low"], row[f"{stem}_high"]
    if is_missing(low) or is_missing(high):
        return percent(row[stem])
    return f"{percent(row[stem])} (95% interval {_decimal(100 * low)} to {_decimal(100 * high)})"


def points(difference: Any) -> str:
    """Difference of shares -> percentage points with their sign, '−12.5'."""
    return NOTHING if is_missing(difference) else _decimal(100 * difference, sign="+")


def point_bounds(low: Any, high: Any) -> str:
    """'[−18.0, −7.1]', in percentage points."""
    return NOTHING if is_missing(low) or is_missing(high) else f"[{points(low)}, {points(high)}]"


def points_in_words(row: Any, stem: str, also: str = "") -> str:
    """'−12.5 percentage points (95% interval −18.0 to −7.1, also)' from a table's row."""
    ends = [points(row[f"{stem}{end}"]) for end in ("_low", "_high")]
    return f"{points(row[stem])} percentage points{_in_brackets(ends, also)}"


def number_in_words(row: Any, stem: str, unit: str = "") -> str:
    """'+0.61 nats (95% interval +0.51 to +0.71)' from a table's row."""
    said, *ends = signed(row, stem)
    return f"{said}{f' {unit}' * bool(unit)}{_in_brackets(ends)}"


def signed(row: Any, stem: str) -> list[str]:
    """Estimate and ends of an interval, '+0.61', with as many decimals as the largest needs for two digits."""
    values = [row[f"{stem}{part}"] for part in ("", "_low", "_high")]
    digits = decimals(max((abs(value) for value in values if not is_missing(value)), default=0.0))
    return [number(value, digits, "+") for value in values]


def decimals(size: float) -> int:
    """At least two, more for what would else be shown as nothing."""
    return 2 if size >= 0.1 or size == 0 else min(1 - math.floor(math.log10(size)), 6)


def _in_brackets(ends: list[str], also: str = "") -> str:
    interval = "" if NOTHING in ends else f"95% interval {ends[0]} to {ends[1]}"
    inside = ", ".join(filter(None, (interval, also)))
    return f" ({inside})" if inside else ""


def probability(p: Any) -> str:
    if is_missing(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def probability_in_words(name: str, p: Any) -> str:
    """'Holm p = 0.012' or 'Holm p < 0.001'."""
    text = probability(p)
    return f"{name} {text}" if text.startswith("<") else f"{name} = {text}"


def count(value: Any) -> str:
    return NOTHING if is_missing(value) else f"{int(value):,}"


def number(value: Any, digits: int = 1, sign: str = "") -> str:
    """`sign="+"` shows the sign of what is a difference."""
    return NOTHING if is_missing(value) else _decimal(value, digits, sign)


def compact(value: Any) -> str:
    """A setting as its author wrote it: 0.5, 1, 0.25."""
    return NOTHING if is_missing(value) else f"{value:g}".replace("-", MINUS)


def duration(seconds: Any) -> str:
    if is_missing(seconds):
        return UNRECORDED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def text(value: Any, missing: str = NOTHING) -> str:
    return missing if is_missing(value) or value == "" else str(value)


def code(value: Any) -> str:
    """A name set as code. A backtick inside would end it, so it becomes a straight quote."""
    return "`" + " ".join(str(value).replace("`", "'").split()) + "`"


def plain(value: Any) -> str:
    """Foreign text inside a sentence, on one line and without the code convention."""
    return " ".join(str(value).replace("`", "'").split())


def listed(items: Iterable[str]) -> str:
    """'a, b and c'."""
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def spelled(n: int, noun: str) -> str:
    """The beginning of a sentence: 'One condition', 'Two conditions', '12 conditions'."""
    return f"{_WORDS[n]} {noun}{'s' * (n != 1)}" if n < len(_WORDS) else plural(n, noun)


def _decimal(value: Real | Any, digits: int = 1, sign: str = "") -> str:
    shown = f"{value:{sign},.{digits}f}"
    if float(shown.replace(",", "")) == 0:  # neither -0.0 nor +0.0
        shown = shown.lstrip("+-")
    return shown.replace("-", MINUS)
