import pandas as pd
import pytest

from raybt.config import Triggers
from raybt.measure.examples import examples
from raybt.measure.judge import judge
from raybt.store.schemas import EXAMPLE_TABLE
from tests.measure.completions import completion, table
from tests.measure.small_tokenizers import byte_level

TEXTS = {
    # (condition, problem): completion
    ("baseline", "p0"): "so 12. Wait, hold on. Final: 42",
    ("cut", "p0"): "so 12. Final: 12",
    ("baseline", "p1"): "Wait, hold on. Final: 42",
    ("cut", "p1"): "Final: 42",
    ("baseline", "p2"): "a long common way, a long common way. Final: 42",
    ("cut", "p2"): "a long common way, a long common way. Final: 41",
    ("same", "p0"): "so 12. Wait, hold on. Final: 42",
    ("short", "p0"): "so 12. Wait",
}


def example_rows(texts=TEXTS):
    """(rows, tokens) as the fleet would join them."""
    done = [completion(f"{condition}/{problem}", text) for (condition, problem), text in texts.items()]
    problem_of = {row["key"]: row["key"].split("/")[1] for row in done}
    golds = dict.fromkeys(problem_of.values(), "42")
    _, graded = judge(table(done), problem_of, golds, byte_level(), Triggers())
    rows = graded.to_pandas()
    rows["condition"] = [key.split("/")[0] for key in rows["key"]]
    rows["problem"] = [key.split("/")[1] for key in rows["key"]]
    rows = rows.assign(stage="grid", variant="default", sample=0, question="How many?")
    return rows, {row["key"]: row["token_ids"] for row in done}


def chosen(rows, tokens, **options):
    found = examples(rows, tokens, byte_level(), Triggers(), **options)
    assert found.schema == EXAMPLE_TABLE
    return found.to_pylist()


def test_the_onset_on_one_side_only_and_the_longest_beginning_win():
    row = chosen(*example_rows())[0]
    assert (row["condition"], row["problem"], row["question"], row["gold"]) == ("cut", "p0", "How many?", "42")
    assert (row["baseline_verdict"], row["treated_verdict"], row["treated_answer"]) == ("correct", "wrong", "12")


def test_the_parting_token_and_the_onsets_are_marked():
    rows, tokens = example_rows()
    row = chosen(rows, tokens)[0]
    left, right = tokens["baseline/p0"], tokens["cut/p0"]
    part = row["part_token"]
    assert left[:part] == right[:part] and left[part] != right[part]
    for side, ids in (("baseline", left), ("treated", right)):
        span = row[f"{side}_text"][row[f"{side}_part_start"] : row[f"{side}_part_end"]]
        assert span == byte_level().decode([ids[part]])
    assert [row["baseline_text"][span["start"] : span["end"]] for span in row["baseline_onsets"]] == ["Wait"]
    assert row["treated_onsets"] == []


def test_identical_completions_never_part():
    row = next(row for row in chosen(*example_rows()) if row["condition"] == "same")
    assert row["part_token"] == -1
    assert row["baseline_part_start"] == row["baseline_part_end"] == len(row["baseline_text"])


def test_one_side_ends_before_the_other():
    row = next(row for row in chosen(*example_rows()) if row["condition"] == "short")
    assert row["treated_part_start"] == row["treated_part_end"] == len(row["treated_text"])
    assert row["baseline_part_start"] == len(row["treated_text"]) < row["baseline_part_end"]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_changes_no_choice(seed):
    rows, tokens = example_rows()
    shuffled = rows.sample(frac=1, random_state=seed)
    by_condition = {row["condition"]: row for row in chosen(shuffled, tokens)}
    assert by_condition == {row["condition"]: row for row in chosen(rows, tokens)}


def test_more_than_one_a_condition():
    picked = [row["problem"] for row in chosen(*example_rows(), per_condition=3) if row["condition"] == "cut"]
    assert picked == ["p0", "p1", "p2"]


def test_conditions_without_a_pair_are_left_out():
    rows, tokens = example_rows()
    missing = rows.assign(verdict=rows["verdict"].where(rows["condition"] != "cut", None))
    assert {row["condition"] for row in chosen(missing, tokens)} == {"same", "short"}
    assert chosen(rows[rows["condition"] != "baseline"], tokens) == []
    assert chosen(rows.head(0), tokens) == []
    assert isinstance(rows, pd.DataFrame)
