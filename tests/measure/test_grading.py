import csv
import json
import threading
import time
from pathlib import Path

import pytest

from raybt.measure.grading import answer_value, as_number, final_answer, grade

STUDY = Path(__file__).parents[2].parent / "shared" / "reference" / "mats-backtracking"

VERDICTS = [
    # explicit statements
    ("\\boxed{42}", "42", "correct"),
    ("So \\boxed{\\text{12 dollars}}.", "12", "correct"),
    ("\\boxed{\\frac{3}{4}}", "0.75", "correct"),
    ("\\boxed{\\$1,234.50}", "1234.5", "correct"),
    ("\\boxed{x = 5}", "5", "correct"),
    ("\\[\n\\boxed{7{,}500}\n\\]", "7500", "correct"),
    ("\\boxed {42}", "42", "correct"),
    ("\\boxed{42", "42", "correct"),
    ("**Answer:** \\(\\boxed{26}\\)", "26", "correct"),  # the study's extractor took "**" here (defect 2)
    ("Final: 42", "42", "correct"),
    ("Final: 42 apples", "42", "correct"),
    ("Final: $7,500.", "7500", "correct"),
    ("final answer: 18", "18", "correct"),
    ("**Final Answer**\n\n18 dollars", "18", "correct"),
    ("**Final Answer:**\n18", "18", "correct"),
    ("Answer = 18", "18", "correct"),
    ("ANSWER: −3", "-3", "correct"),
    ("#### 42", "42", "correct"),
    ("#### $42.00", "42", "correct"),
    ("The answer is 42.", "42", "correct"),
    ("The final answer is: **42**.", "42", "correct"),
    ("so the answer would be 42, not 41.", "42", "correct"),
    ("The answer is 3 * 14 = 42.", "42", "correct"),
    ("answer621/answer", "621", "correct"),
    ("Final: 7500", "0", "wrong"),
    ("Final: 42", "43", "wrong"),
    ("Final: 50%", "50", "correct"),
    ("Final: 1e3", "1000", "correct"),
    ("Final: 3.33", "10/3", "wrong"),  # no tolerance
    ("Final: 3.30", "3.3", "correct"),
    ("Final: 10/3", "10/3", "correct"),
    ("Final: 1,000,000 miles", "1000000", "correct"),
    # the last one wins
    ("The answer is 12. Wait, that is wrong. The answer is 15.", "15", "correct"),
    ("The answer is 12. Wait, that is wrong. The answer is 15.", "12", "wrong"),
    ("Final: 12\nWait, no.\nFinal: 15", "15", "correct"),
    ("\\boxed{12} Wait. \\boxed{15}", "15", "correct"),
    ("\\boxed{12} and then #### 15", "15", "correct"),
    ("Final: 12\n\\boxed{15}", "15", "correct"),
    # explicit statements beat plain numbers
    ("Final: 15. I checked it 2 times.", "15", "correct"),
    ("The answer is 15. There were 3 children.", "15", "correct"),
    ("\\boxed{15}\nIt took 10 minutes", "15", "correct"),
    # what looks like a statement and is none
    ("The answer is not 12. It is 13.", "13", "correct"),
    ("The answer is wrong. So 13", "13", "correct"),
    ("\\boxed{} so 13", "13", "correct"),
    ("Final: ____\nSo 13", "13", "correct"),
    ("#### Step 2: add\nso 13", "13", "correct"),
    ("#### 2. Add them\nso 13", "13", "correct"),
    # plain numbers, as the last resort
    ("3 * 4 = 12. Wait, 3 * 5 = 15. So 15.", "15", "correct"),
    ("so they have 7500", "7500", "correct"),
    ("so they have 7500", "0", "wrong"),
    ("It costs $1,234.50 in all.", "1234.5", "correct"),
    ("I get 3/4", "0.75", "correct"),
    ("about \\frac{3}{4} of it", "3/4", "correct"),
    ("He loses, so -3", "-3", "correct"),
    ("10 - 3 = 7", "7", "correct"),
    # formulas
    ("\\boxed{\\sqrt{16}}", "4", "correct"),
    ("\\boxed{3 + 4}", "7", "correct"),
    ("\\boxed{2^3}", "8", "correct"),
    ("\\boxed{2^3}", "9", "wrong"),
    ("\\boxed{1 + x}", "x+1", "correct"),
    ("\\boxed{x + 2}", "x+1", "wrong"),
    ("The answer is Yes.", "yes", "correct"),
    ("The answer is eys.", "yes", "wrong"),
    # nothing to grade
    ("", "42", "unparseable"),
    ("I do not know.", "42", "unparseable"),
    ("forty-two", "42", "unparseable"),
    ("\\boxed{9^9^9^9^9}", "42", "unparseable"),
    ("so it is 5", "x+1", "unparseable"),
]


@pytest.mark.parametrize(("text", "gold", "verdict"), VERDICTS)
def test_verdict(text, gold, verdict):
    graded = grade(text, gold, "eos")
    assert graded.verdict == verdict, graded
    assert graded.answer_so_far is None


@pytest.mark.parametrize(
    ("text", "so_far"), [("Final: 42", "42"), ("\\boxed{42} Wait", "42"), ("3 * 14 = 42, and", "42"), ("hmm", None)]
)
def test_a_truncated_completion_is_truncated_whatever_it_said(text, so_far):
    """Defect 5: with one constant finish reason this could not be told."""
    graded = grade(text, "42", "length")
    assert (graded.verdict, graded.answer, graded.answer_so_far) == ("truncated", None, so_far)


@pytest.mark.parametrize("reason", ["stop", "", "error"])
def test_only_real_finish_reasons(reason):
    with pytest.raises(ValueError, match="eos or length"):
        grade("Final: 42", "42", reason)


def test_formulas_are_graded_in_threads_too():
    """math-verify's timeouts are signals, which only the main thread may set."""
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(grade("\\boxed{\\sqrt{25}}", "5", "eos").verdict))
    thread.start()
    thread.join()
    assert verdicts == ["correct"]


@pytest.mark.parametrize(
    "text",
    ["#" * 60000, "answer: " * 8000, "answer: 1 " * 8000, "1 " * 30000, "9" * 60000, "\\boxed{" * 8000]
    + [
        "+" + " " * 60000,
        "**" * 30000,
        "1," * 30000,
        "\\text{" * 8000,
        "\n" * 60000,
        "Final: " + "1 + " * 15000,
        "1/" * 30000,
    ],
)
def test_a_broken_model_does_not_hold_up_the_grading(text):
    """Loops to the last token are what an ablation often gives; a pattern that backtracks would take minutes here."""
    began = time.process_time()
    grade(text, "42", "eos")
    assert time.process_time() - began < 5


def test_final_answer_of_words():
    assert final_answer("Final: x + 1", numeric=False) == "x + 1"
    assert final_answer("so 12", numeric=False) is None


def test_equal_answers_have_one_value():
    assert answer_value("$7,500.0") == answer_value("7500")
    assert answer_value("Yes.") == answer_value("\\text{yes}")
    assert hash(answer_value("9" * 5000)) == hash(10**5000 - 1)


@pytest.mark.skipif(not STUDY.exists(), reason="the study's data is not here")
def test_the_studys_strings_graded_again():
    """Defect 2: from the very same strings baseline accuracy is 36.7%, not 19.8%, and onsets do not double it."""
    with (STUDY / "backtracking_events.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "baseline"]
    with (STUDY / "gsm8k_200.jsonl").open() as file:
        golds = {str(row["id"]): row["answer_value"] for row in map(json.loads, file)}
    right = {True: [], False: []}
    for row in rows:
        number = as_number(row["predicted_answer"])
        right[row["has_backtracking_strict"] == "True"].append(number == as_number(golds[row["example_id"]]))
    assert sum(row["is_correct"] == "True" for row in rows) / len(rows) == pytest.approx(0.198, abs=0.001)
    assert sum(map(sum, right.values())) / len(rows) == pytest.approx(0.367, abs=0.005)
    with_onset, without = (sum(right[had]) / len(right[had]) for had in (True, False))
    assert with_onset / without == pytest.approx(0.94, abs=0.03)
