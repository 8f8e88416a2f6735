"""What the first paragraphs may claim."""

import pytest

from raybt.report.blocks import Warning
from raybt.report.opening import opening


def said(results):
    return " ".join(block.text for block in opening(results))


def warned(results):
    return " ".join(block.text for block in opening(results) if isinstance(block, Warning))


def test_numbers_are_the_tables(results):
    text = said(results)
    assert "24 problems with 4 samples each" in text and "8 conditions" in text
    assert "Of 864 planned completions 768 are done, 0 failed and 96 are missing" in text
    assert "backtracks in 43.2% (95% interval 35.2 to 51.2)" in text
    assert "85.8% (95% interval 77.8 to 93.8)" in text
    assert "`late_mlp@0` (onset rate −21.8 percentage points, 95% interval −30.8 to −12.8, Holm p = 0.008" in text
    assert "One condition raises the onset rate with no measured loss of accuracy: `attn.3@0`" in text
    assert "No condition qualifies" not in text


def test_collapsed_conditions_get_no_claim(make, make_sweep):
    rows = make_sweep()
    for row in rows:
        if row["collapsed"]:
            row["finding"] = "lowers"  # even if a table said so
    blocks = [block.text for block in opening(make(rows))]
    claims = [text for text in blocks if "the onset rate" in text and "condition" in text]
    assert claims and not any("early_attn" in text for text in claims)
    assert any(text.startswith("Two conditions have collapsed: `early_attn@0` and `early_attn@0.5`") for text in blocks)


def test_none_qualifies_when_all_collapsed(make, make_condition):
    rows = [make_condition("baseline", 0.4, 0.8, finding="baseline")]
    rows += [
        make_condition(
            f"x@{scale}", 0.0, 0.0, subset="x", scale=scale, finding="collapsed", because="accuracy at chance"
        )
        for scale in (0.0, 0.5)
    ]
    text = said(make(rows))
    assert "No condition qualifies" in text and "measured loss" not in text


def test_missing_and_truncated_rows_come_first(make, make_sweep):
    rows = make_sweep()
    rows[1] |= {"failed": 3, "truncated": 40, "truncated_rate": 0.4167}
    blocks = opening(make(rows))
    assert isinstance(blocks[0], Warning) and "96 missing and 3 failed of 864" in blocks[0].text
    assert isinstance(blocks[1], Warning) and "`late_mlp@0` (41.7%)" in blocks[1].text
    assert not any(isinstance(block, Warning) for block in blocks[2:])


def test_clean_run_warns_of_nothing(make, make_sweep):
    assert warned(make(make_sweep()[:-1])) == ""


def test_a_baseline_at_chance_is_warned_of(make, make_condition):
    baseline = make_condition("baseline", 0.4, 0.05, collapsed_because="baseline accuracy is not above chance")
    assert "baseline accuracy is not above chance" in warned(make([baseline]))


def test_lost_accuracy_is_told_beside_the_effect(make, make_condition):
    rows = [
        make_condition("baseline", 0.4, 0.8),
        make_condition("x@0", 0.1, 0.5, scale=0.0, subset="x", finding="lowers"),
    ]
    text = said(make(rows))
    assert "No condition qualifies" in text
    assert "One condition lowers the onset rate at a cost in accuracy" in text
    assert "accuracy −30.0 percentage points" in text


@pytest.mark.parametrize(
    ("onset", "finding", "expected"),
    [(0.3, "no evidence", "No condition qualifies"), (None, "incomplete", "No condition can be judged yet")],
)
def test_nothing_to_claim(make, make_condition, onset, finding, expected):
    rows = [make_condition("baseline", 0.4, 0.8), make_condition("x@0", onset, onset, scale=0.0, finding=finding)]
    assert expected in said(make(rows))


def test_baseline_alone_and_no_rows(make, make_condition):
    assert "Only the baseline was run" in said(make([make_condition("baseline", 0.4, 0.8)]))
    assert "no completion is done yet" in said(make([make_condition("baseline", None, None, done=0, problems=0)]))
    assert "nothing has been run" in said(make([]))


def test_stages_are_named_where_there_are_several(make, make_sweep):
    text = said(make([*make_sweep(), *make_sweep(stage="second")]))
    assert "`late_mlp@0` in stages `sweep` and `second`" in text
    assert text.count("Under the baseline") == 1  # the stages share it


def test_long_lists_end_in_the_tables(make, make_condition):
    rows = [make_condition("baseline", 0.4, 0.8)]
    rows += [
        make_condition(f"s{i}@0", 0.3 - i / 100, 0.8, subset=f"s{i}", scale=0.0, finding="lowers") for i in range(9)
    ]
    text = said(make(rows))
    assert "Nine conditions lower" in text and "and 5 more in the tables" in text
    assert "`s8@0`" in text and "`s0@0`" not in text  # the largest effects are named
