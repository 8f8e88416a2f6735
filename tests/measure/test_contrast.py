"""Positions that vectors are made from."""

import pandas as pd

from raybt.measure.contrast import matched_positions, sampled_positions, written_positions


def grades(*rows):
    columns = ["key", "n_tokens", "onset_strict", "onset_relaxed", "onset_token"]
    return pd.DataFrame([list(row) for row in rows], columns=columns)


EXAMPLE = grades(
    ("a", 30, True, True, 20.0),
    ("b", 40, False, False, None),
    ("c", 10, False, False, None),
    ("d", 50, False, True, None),  # a relaxed onset: no control
    ("e", 30, True, True, 1.0),
    ("f", 60, True, True, 55.0),  # nothing without an onset is that long
)


def test_controls_stand_as_far_into_a_completion_without_any_onset():
    found = matched_positions(EXAMPLE, (-2, 0), seed=0)
    assert found.onsets[:2] == [("a", 18), ("a", 19)]
    assert [spot for _, spot in found.onsets] == [spot for _, spot in found.controls]
    assert {key for key, _ in found.controls} <= {"b", "c"} and found.controls[0][0] == "b"
    assert found.unmatched == 1 and "f" not in {key for key, _ in found.onsets}


def test_they_do_not_depend_on_the_order_of_rows():
    turned = EXAMPLE.iloc[::-1].reset_index(drop=True)
    assert matched_positions(turned, (-1, 0), 3) == matched_positions(EXAMPLE, (-1, 0), 3)
    assert sampled_positions(turned, 9, 1) == sampled_positions(EXAMPLE, 9, 1)


def test_samples_are_distinct_written_tokens():
    everything = written_positions(EXAMPLE)
    assert len(everything) == EXAMPLE["n_tokens"].sum() - len(EXAMPLE)
    some = sampled_positions(EXAMPLE, 25, seed=4)
    assert len(set(some)) == 25 and set(some) <= set(everything) and some == sorted(some)
    assert sampled_positions(EXAMPLE, 10_000, seed=4) == everything
