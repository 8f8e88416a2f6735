"""Decisions are kept as they were made."""

from raybt.store.schemas.study import DECISIONS
from raybt.study.decisions import Decision, Decisions, content_of, read_decisions


def test_they_come_back_from_their_table_as_they_were():
    made = Decisions(
        [Decision("sites:a", ["mlp.1"], "why", "f00"), Decision("search:s:1", {"survivors": []}, "none", "1")]
    )
    table = made.table()
    assert table.schema.equals(DECISIONS)
    assert list(read_decisions(table)) == list(made) and read_decisions(table).value("sites:a") == ["mlp.1"]


def test_what_was_decided_is_never_decided_again():
    first = Decisions([Decision("a", 1, "first", "x")])
    more = first.with_more([Decision("a", 2, "second", "y"), Decision("b", 3, "new", "z")])
    assert [(one.name, one.value) for one in more] == [("a", 1), ("b", 3)] and len(more) == 2
    assert "b" not in first and first.value("b") is None


def test_other_tables_have_another_hash():
    assert content_of([1, 2], "a") == content_of([1, 2], "a") != content_of([1, 3], "a")
