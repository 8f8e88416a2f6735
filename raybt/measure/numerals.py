"""Numbers as people and LaTeX write them, read exactly."""

import re
from decimal import Decimal
from fractions import Fraction

_MAX_EXPONENT = 400  # 1e999999999 is a few characters of text and gigabytes of integer

_DECIMAL = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?!\w))?"
NUMBER = re.compile(
    rf"""(?P<sign>(?<![\w)\]}}%.])[-+])? (?:[$€£¥₹]\s*)? (?P<inner>(?<=[$€£¥₹])[-+])?
    (?: (?P<whole>\d+)\s+(?P<over>\d+)\s?/\s?(?P<under>\d+)(?![\d/])
      | (?P<top>{_DECIMAL})\s?/\s?(?P<bottom>{_DECIMAL})(?!/)
      | (?P<decimal>{_DECIMAL}) )""",
    re.VERBOSE,
)

_REWRITES = [(re.compile(pattern), by) for pattern, by in (
    (r"\\[dt]?frac", r"\\frac"),
    (r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
    (r"(?<=\d)(?:\{,\}|\\[,!]|[\u202f\u2009\u00a0])(?=\d{3}(?!\d))", ","),  # 1{,}234, 1\,234
    (r"\\[,;:! ]|~|[\u202f\u2009\u00a0]", " "),
    (r"[\u2212\u2013\u2012\uff0d]", "-"),
    (r"\^\{?\s*\\circ\s*\}?|°", " "),
    (r"\\[()\[\]]|\\left\b|\\right\b|\*\*|`", ""),
    (r"\\([$%&#_])", r"\1"),
    (r"(?<=\d)\s*(?:\\times|\\cdot|[×·*])\s*10\s*\^\s*\{?\s*([-+]?\d+)\s*\}?", r"e\1"),
    (r"(?<=\d)\s*\\frac", r" \\frac"),  # 1\frac{1}{2} is mixed, not 11/2
    (r"\\frac\s*\{\s*([\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}", r"\1/\2"),
    (r"\\frac\s*(\d)\s*(\d)", r"\1/\2"),
)]  # fmt: skip

_UNIT = re.compile(r"\s*%?\s*[^\W\d_]*\s*[^\W\d_]*")
_EQUALS = re.compile(r"(?<![<>!])=|≈|\\approx|\\Rightarrow|⇒|→")
_OPERATOR_BEFORE = re.compile(r"(?:[+*/×·÷^]|[\d)}]\s*-|\\(?:times|cdot|div|pi|log|ln)|sqrt|frac)\s*[({]?\s*$")
_OPERATOR_AFTER = re.compile(r"\s*(?:[a-z)}]?\s*[+*×·÷^]\s*[\w({\\]|[-/]\s*[\d(]|\\(?:times|cdot|div|sqrt|pi|frac))")


def as_number(text: str) -> Fraction | None:
    """The number that a statement such as `$1,234.50`, `x = −3`, `1\\frac{1}{2} cups`, `1.2e3` or `50%` gives, exactly.

    After the last equals sign; the first number where the statement opens with one ("12 apples for 3 children"), else
    the last ("the 3 children get 12"). A number that is part of an expression (`3 + 4`, `\\sqrt{16}`) is none.
    Percent signs, currencies and other units are dropped (50% is 50). Commas separate groups of three digits; the
    decimal sign is a point.
    """
    match = number_match(plain_math(text))
    return None if match is None else _value(match)


def whole_number(text: str) -> str | None:
    """Bare digits, if `text` is but one number with at most a currency and a unit: "$1,234.50" is "1234.50"."""
    plain = plain_math(text).strip().rstrip(".")
    match = NUMBER.match(plain)
    if match is None or _value(match) is None or not _UNIT.fullmatch(plain, match.end()):
        return None
    return re.sub(r"[$€£¥₹,+]", "", match.group()).strip()


def last_number(text: str) -> str | None:
    """The last number in `text`, whole, as written."""
    matches = list(NUMBER.finditer(plain_math(text)))
    return matches[-1].group().strip() if matches else None


def plain_math(text: str) -> str:
    """`text` with LaTeX and typographic spellings of numbers turned into plain ones."""
    for pattern, by in _REWRITES:
        text = pattern.sub(by, text)
    return text


def number_match(plain: str) -> re.Match[str] | None:
    """The match that `as_number` reads, in text that went through `plain_math`."""
    sides = [side for side in _EQUALS.split(plain) if NUMBER.search(side)]
    matches = list(NUMBER.finditer(sides[-1])) if sides else []
    opens = [match for match in matches[:1] if not re.search(r"\w", match.string[: match.start()])]
    return next((match for match in (*opens, *matches[-1:]) if not _in_expression(match)), None)


def _in_expression(match: re.Match[str]) -> bool:
    before, after = match.string[: match.start()], match.string[match.end() :]
    return bool(_OPERATOR_BEFORE.search(before) or _OPERATOR_AFTER.match(after))


def _value(match: re.Match[str]) -> Fraction | None:
    part = match.groupdict()
    try:
        if part["whole"]:
            size = _fraction(part["whole"]) + _fraction(part["over"]) / _fraction(part["under"])
        elif part["top"]:
            size = _fraction(part["top"]) / _fraction(part["bottom"])
        else:
            size = _fraction(part["decimal"])
    except (ZeroDivisionError, OverflowError):
        return None
    return -size if "-" in (part["sign"], part["inner"]) else size


def _fraction(digits: str) -> Fraction:
    exponent = re.search(r"[eE](.*)", digits)
    if exponent and (len(exponent[1]) > 5 or abs(int(exponent[1])) > _MAX_EXPONENT):
        raise OverflowError(digits)
    return Fraction(Decimal(digits.replace(",", "")))  # Decimal: int() refuses more than 4,300 digits
