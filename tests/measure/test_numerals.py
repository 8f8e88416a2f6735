from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybt.measure.numerals import as_number, last_number, whole_number

HALF = Fraction(1, 2)
NUMBERS = [
    ("7500", 7500),  # the study's defect 3: four digits without a comma were read as 0
    ("7,500", 7500),
    ("1,234,567", 1234567),
    ("12345678901234567890", 12345678901234567890),
    ("$1,234.50", Fraction("1234.5")),
    ("-3", -3),
    ("−3", -3),
    ("–3", -3),
    ("+7", 7),
    ("-$3", -3),
    ("$-3", -3),
    ("€ 5", 5),
    ("\\$18", 18),
    ("0.50", HALF),
    (".5", HALF),
    ("42.", 42),
    ("42.0", 42),
    ("3/4", Fraction(3, 4)),
    ("-3/4", Fraction(-3, 4)),
    ("\\frac{3}{4}", Fraction(3, 4)),
    ("\\dfrac{3}{4}", Fraction(3, 4)),
    ("\\frac34", Fraction(3, 4)),
    ("-\\frac{3}{4}", Fraction(-3, 4)),
    ("1 1/2", Fraction(3, 2)),
    ("1\\frac{1}{2}", Fraction(3, 2)),
    ("1e3", 1000),
    ("1.5E-3", Fraction(15, 10000)),
    ("1.2 \\times 10^6", 1200000),
    ("3 × 10^{2}", 300),
    ("50%", 50),
    ("50\\%", 50),
    ("1{,}234", 1234),
    ("1\\,234", 1234),
    ("1\u202f234", 1234),
    ("12 apples", 12),
    ("\\text{12 dollars}", 12),
    ("12\\text{ dollars}", 12),
    ("90^\\circ", 90),
    ("12 dollars/hour", 12),
    ("$3/hour", 3),
    ("5-year", 5),
    ("x = 5", 5),
    ("2 + 3 = 5", 5),
    ("\\(26\\)", 26),
    ("**26**", 26),
    ("12 apples for 3 children", 12),
    ("the 3 children get 12", 12),
    ("3 + 4, which gives 7", 7),
    ("answer621/answer", 621),  # what the study compared with the gold as a string
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_as_number(text, number):
    assert as_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "no number", "3 + 4", "2 * 3", "10 - 3", "5-3", "\\sqrt{16}", "2\\sqrt{3}", "5\\pi", "x^2", "2x + 3", "1/0"]
    + ["1e999999999", "15 × 8 × 8."],
)
def test_expressions_and_words_are_no_number(text):
    assert as_number(text) is None


def test_any_length():
    assert as_number("9" * 5000) == 10**5000 - 1


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "{:,}", "${:,}", "{:,} apples", "x = {}", "{:,}.00", "**{}**"]),
)
def test_no_integer_is_split_however_it_is_written(number, form):
    assert as_number(form.format(number)) == number


@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=3))
def test_decimals_are_exact(number):
    assert as_number(f"{number:,}") == Fraction(number)


@given(st.integers(0, 10**9), st.text("ab,. \n-", max_size=5), st.text("ab \n", max_size=5))
def test_the_last_number_is_whole(number, before, after):
    found = last_number(f"3 and {before} {number:,} {after}")
    assert found is not None and abs(as_number(found)) == number  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,234", "1234"), ("$1,234.50", "1234.50"), ("−3", "-3"), ("12 apples", "12"), ("50%", "50"), ("3/4", "3/4")],
)
def test_whole_number(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "x+1", "12 or 13", "12 apples and 3 pears", "see the 3 notes", "3 + 4", "1/0"])
def test_more_than_one_number_is_not_whole(text):
    assert whole_number(text) is None
