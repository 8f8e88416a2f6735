"""Problems: sources, order, gold answers, and what is refused."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybt.config import Problems
from raybt.errors import UserError
from raybt.plan.problems import gold_answer, load_problems
from tests.plan.models import problem_file


def written(path, *records):
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records))
    return str(path)


def test_gold_is_what_follows_the_last_marker():
    assert [gold_answer(text) for text in ("a #### 1 #### 2,500 ", " 42 ", "", "x ####")] == ["2,500", "42", "", ""]


def test_jsonl_and_parquet_read_the_same(tmp_path):
    lines = problem_file(tmp_path / "p.jsonl")
    table = pa.Table.from_pylist([json.loads(line) for line in lines.read_text().splitlines()])
    pq.write_table(table, tmp_path / "p.parquet")
    found = load_problems(Problems(name=str(lines)))
    assert found == load_problems(Problems(name=str(tmp_path / "p.parquet")))
    assert found[3] == ("p3", "3 + 1?", "4")


def test_the_shipped_problems_load():
    assert len(load_problems(Problems(name="raybt-toy", limit=24))) == 24


def test_shuffling_depends_on_ids_not_on_the_order_of_the_file(tmp_path):
    lines = problem_file(tmp_path / "p.jsonl", 40).read_text().splitlines()
    random.Random(0).shuffle(lines)
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    first, second = (
        load_problems(Problems(name=str(tmp_path / name), shuffle_seed=1, limit=10)) for name in ("p.jsonl", "q.jsonl")
    )
    other = load_problems(Problems(name=str(tmp_path / "p.jsonl"), shuffle_seed=2, limit=10))
    assert first == second != other


def test_the_limit_comes_after_the_shuffle_and_a_larger_one_only_adds(tmp_path):
    name = str(problem_file(tmp_path / "p.jsonl", 40))
    ten, twenty = (load_problems(Problems(name=name, shuffle_seed=1, limit=limit)) for limit in (10, 20))
    assert twenty[:10] == ten


def test_without_an_id_field_the_position_is_the_id(tmp_path):
    name = str(problem_file(tmp_path / "p.jsonl"))
    found = load_problems(Problems.model_validate({"name": name, "fields": {"id": None}}))
    assert [problem.id for problem in found] == list("012345")


GOOD = {"id": 1, "question": "q", "answer": 3}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "no problems"),
        ([{"id": 1, "text": "q", "answer": "1"}], "no field question; there are id, text, answer"),
        ([GOOD, GOOD], "unique; got 1"),
        ([GOOD, {**GOOD, "id": 2, "answer": "#### "}], "gold answer; got none in problem 2"),
        ([GOOD, {**GOOD, "id": 2, "answer": None}], "gold answer; got none in problem 2"),
        ([GOOD, {"id": 2, "answer": "1"}], "question; got none in problem 2"),
        ([GOOD, {**GOOD, "id": None}], "none in record 1"),
        ([GOOD, "{not json"], "line 2"),
        (["[1, 2]"], "object"),
    ],
)
def test_bad_problem_files_are_refused_in_one_line(tmp_path, records, says):
    with pytest.raises(UserError) as error:
        load_problems(Problems(name=written(tmp_path / "p.jsonl", *records)))
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "./nowhere", "nowhere.parquet"])
def test_a_missing_file_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        load_problems(Problems(name=name))


def test_a_broken_parquet_file_is_refused(tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="readable"):
        load_problems(Problems(name=str(tmp_path / "p.parquet")))


def test_an_unreachable_data_set_is_refused():
    with pytest.raises(UserError, match=r"problems\.name"):
        load_problems(Problems(name="nobody/no-such-data-set"))
