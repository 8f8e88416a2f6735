import random

import pytest

from raybt.config import Triggers
from raybt.measure.judge import Chance, judge
from raybt.store.schemas import EVENTS, GRADES
from tests.measure.completions import completion, table
from tests.measure.small_tokenizers import byte_level


def judged(rows, problem_of, gold_of):
    return judge(table(rows), problem_of, gold_of, byte_level(), Triggers())


def by_key(graded, column):
    return dict(zip(graded["key"].to_pylist(), graded[column].to_pylist(), strict=True))


def many(n=60, seed=0):
    """Completions of 60 problems, 3 each, nine of ten right; golds collide."""
    rng = random.Random(seed)
    gold_of = {f"p{i}": str(rng.randrange(8)) for i in range(n)}
    problem_of = {f"k{i}-{s}": f"p{i}" for i in range(n) for s in range(3)}
    said = {key: gold_of[p] if rng.random() < 0.9 else str(rng.randrange(8)) for key, p in problem_of.items()}
    return [completion(key, f"so\nFinal: {answer}") for key, answer in said.items()], problem_of, gold_of


def accuracy(graded):
    return sum(verdict == "correct" for verdict in graded["verdict"].to_pylist()) / len(graded)


def test_both_tables_have_their_schema_also_when_empty():
    for rows in ([], [completion("k", "12. Wait, no. Final: 42")]):
        events, graded = judged(rows, {"k": "p"}, {"p": "42"})
        assert (events.schema, graded.schema) == (EVENTS, GRADES)
        assert graded.num_rows == len(rows)


def test_one_completion():
    text = "12. Wait, hold on. I was wrong. Final: 42"
    events, graded = judged([completion("k", text)], {"k": "p"}, {"p": "42"})
    (row,) = graded.to_pylist()
    ids = byte_level().encode(text)
    assert (row["text"], row["n_tokens"], row["verdict"], row["answer"]) == (text, len(ids), "correct", "42")
    assert (row["onset_strict"], row["onset_relaxed"]) == (True, True)
    assert (row["onset_phrase"], row["onset_char"]) == ("Wait", 4)
    assert [event["phrase"] for event in events.to_pylist()] == ["Wait", "I was wrong"]
    (onset,) = [event for event in events.to_pylist() if event["is_onset"]]
    assert onset["token"] == row["onset_token"] and onset["token_id"] == ids[onset["token"]]
    assert "Wait".startswith(byte_level().decode([onset["token_id"]]).strip()[:1])


def test_a_relaxed_onset_alone():
    _, graded = judged([completion("k", "a mistake. Final: 42")], {"k": "p"}, {"p": "42"})
    (row,) = graded.to_pylist()
    assert (row["onset_strict"], row["onset_relaxed"], row["onset_phrase"]) == (False, True, "mistake")


def test_alternatives_are_events_and_count_in_no_rate():
    events, graded = judged([completion("k", "12. But then. Final: 42")], {"k": "p"}, {"p": "42"})
    (row,) = graded.to_pylist()
    assert (row["onset_strict"], row["onset_relaxed"], row["onset_phrase"], row["onset_token"]) == (
        False,
        False,
        None,
        None,
    )
    (event,) = events.to_pylist()
    assert (event["tier"], event["phrase"], event["is_onset"]) == ("alternative", "But", False)


def test_sentence_starts_are_tokens():
    text = "12. Wait, no. Final: 42"
    _, graded = judged([completion("k", text)], {"k": "p"}, {"p": "42"})
    (row,) = graded.to_pylist()
    tokens = [byte_level().decode([one]) for one in byte_level().encode(text)]
    before = ["".join(tokens[:start]).rstrip() for start in row["sentence_starts"]]
    assert before == ["", "12.", "12. Wait, no.", "12. Wait, no. Final:"]
    assert row["onset_token"] in row["sentence_starts"]


def test_no_onset_and_no_answer_are_null():
    _, graded = judged([completion("k", "They wait")], {"k": "p"}, {"p": "42"})
    (row,) = graded.to_pylist()
    assert (row["verdict"], row["chance"]) == ("unparseable", 0)
    assert all(row[name] is None for name in ("answer", "answer_so_far", "onset_phrase", "onset_char", "onset_token"))


def test_truncation_comes_from_the_finish_reason():
    """Defect 5."""
    _, graded = judged([completion("k", "Final: 42", "length")], {"k": "p"}, {"p": "42"})
    (row,) = graded.to_pylist()
    assert (row["verdict"], row["answer"], row["answer_so_far"], row["chance"]) == ("truncated", None, "42", 0)


def test_the_order_of_rows_and_problems_changes_no_row():
    """Defect 1: the study joined gold answers by row index modulo the number of problems."""
    rows, problem_of, gold_of = many()
    _, straight = judged(rows, problem_of, gold_of)
    shuffled_rows, shuffled_golds = list(rows), list(gold_of.items())
    random.Random(1).shuffle(shuffled_rows)
    random.Random(2).shuffle(shuffled_golds)
    _, shuffled = judged(shuffled_rows, problem_of, dict(shuffled_golds))
    assert sorted(straight.to_pylist(), key=str) == sorted(shuffled.to_pylist(), key=str)
    assert accuracy(straight) > 0.85


def test_permuted_gold_gives_chance_accuracy():
    rows, problem_of, gold_of = many()
    _, graded = judged(rows, problem_of, gold_of)
    expected = sum(graded["chance"].to_pylist()) / len(graded)
    golds, found = list(gold_of.values()), []
    for shift in range(1, len(golds)):  # every other problem's gold once: the expectation, without noise
        permuted = dict(zip(gold_of, golds[shift:] + golds[:shift], strict=True))
        found.append(accuracy(judged(rows[::9], problem_of, permuted)[1]))
    ninth = [chance for key, chance in by_key(graded, "chance").items() if key in {row["key"] for row in rows[::9]}]
    assert sum(found) / len(found) == pytest.approx(sum(ninth) / len(ninth))
    assert expected == pytest.approx(1 / 8, abs=0.04)


def test_a_random_permutation_comes_near_chance():
    rows, problem_of, gold_of = many(150)
    _, graded = judged(rows, problem_of, gold_of)
    golds = list(gold_of.values())
    random.Random(3).shuffle(golds)
    _, permuted = judged(rows, problem_of, dict(zip(gold_of, golds, strict=True)))
    assert accuracy(permuted) == pytest.approx(sum(graded["chance"].to_pylist()) / len(graded), abs=0.07)


def test_chance_counts_the_other_problems():
    chance = Chance({"a": "7,500", "b": "7500", "c": "$7500.0", "d": "3"})
    assert chance("a", "7500") == 2 / 3
    assert chance("d", "7500") == 1
    assert chance("d", "3") == 0
    assert chance("a", None) == chance("a", "8") == 0
    assert Chance({"a": "1"})("a", "1") == 0


@pytest.mark.parametrize(("problem_of", "gold_of"), [({}, {"p": "1"}), ({"k": "p"}, {}), ({"k": "q"}, {"p": "1"})])
def test_a_completion_without_its_problem_is_an_error(problem_of, gold_of):
    with pytest.raises(ValueError, match="completion k belongs to"):
        judged([completion("k", "Final: 1")], problem_of, gold_of)


def test_judging_knows_nothing_of_conditions():
    rows, problem_of, gold_of = many(5)
    renamed = {f"other-{key}": problem for key, problem in problem_of.items()}
    _, one = judged(rows, problem_of, gold_of)
    _, other = judged([row | {"key": f"other-{row['key']}", "numerics": "gpu"} for row in rows], renamed, gold_of)
    assert one.drop(["key"]) == other.drop(["key"])
