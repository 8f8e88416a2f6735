"""Which onsets are measured, and that each control is what it is said to be."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybt.study.events import FAIR_SHARES, choose_events, event_id, match_controls
from raybt.study.split import hash_order

VARIANTS = ("plain", "think")
PROBLEMS = tuple(f"p{number}" for number in range(12))


def a_run(seed=0, problems=PROBLEMS, samples=6, onset_share=0.4, relaxed_share=0.2, longest=80):
    """(grades, token ids): every token id names its completion and its place, so that a mix-up shows."""
    rng, rows, token_ids = np.random.default_rng(seed), [], {}
    cells = [(variant, problem, sample) for variant in VARIANTS for problem in problems for sample in range(samples)]
    for number, (variant, problem, sample) in enumerate(cells):
        key, length = f"{number:04x}", int(rng.integers(5, longest))
        token_ids[key] = [1000 * number + token for token in range(length)]
        strict, relaxed = rng.random() < onset_share, rng.random() < relaxed_share
        onset = int(rng.integers(1, length)) if strict or relaxed else None
        rows.append({
            "key": key, "variant": variant, "problem": problem, "sample": sample, "n_tokens": length,
            "onset_strict": strict, "onset_relaxed": strict or relaxed, "onset_token": onset,
            "onset_token_id": None if onset is None else token_ids[key][onset],
            "sentence_starts": np.sort(rng.choice(length, min(length, 4), replace=False)),
        })  # fmt: skip
    return pd.DataFrame(rows), token_ids


GRADES, TOKENS = a_run()
ROW = GRADES.set_index("key")


def chosen(grades=GRADES, limit=1000, per_problem=100, seed=0, problems=PROBLEMS):
    return choose_events(grades, limit=limit, per_problem=per_problem, seed=seed, problems=problems)


def matched(onsets, grades=GRADES, token_ids=TOKENS, seed=0, problems=PROBLEMS, target="onset"):
    return match_controls(onsets, grades, token_ids, seed=seed, problems=problems, target=target)


def of_role(found, role):
    return [event for event in found.events if event.role == role]


def test_events_are_the_strict_onsets_one_a_completion():
    events = chosen()
    strict = GRADES[GRADES["onset_strict"]]
    assert {event.source for event in events} == set(strict["key"]) and len(events) == len(strict)
    for event in events:
        assert event.token == ROW.loc[event.source, "onset_token"] < ROW.loc[event.source, "n_tokens"]
        assert event.target == TOKENS[event.source][event.token]
        assert event.id == event.of == event_id(event.source, event.token) and event.role == "onset"


def test_problems_take_turns_in_hash_order_and_none_exceeds_its_cap():
    events = chosen(per_problem=2, limit=15)
    assert max(Counter(event.problem for event in events).values()) <= 2
    assert [event.problem for event in events[:12]] == list(hash_order(PROBLEMS, 0))
    assert len(events) == 15
    assert chosen(per_problem=2, limit=5) == events[:5]  # raising the limit keeps what was chosen


def test_only_given_problems_are_used():
    some = PROBLEMS[:4]
    onsets = chosen(problems=some)
    assert {event.problem for event in [*onsets, *matched(onsets, problems=some).events]} <= set(some)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_and_problems_changes_nothing(random):
    order, problems = list(range(len(GRADES))), list(PROBLEMS)
    random.shuffle(order)
    random.shuffle(problems)
    shuffled = GRADES.iloc[order].reset_index(drop=True)
    events = chosen(shuffled, problems=problems)
    assert events == chosen()
    assert matched(events, shuffled, problems=problems) == matched(events)


def test_another_seed_chooses_others():
    assert chosen(limit=12) != chosen(limit=12, seed=1)
    assert matched(chosen(), seed=1) != matched(chosen())


def test_a_completion_of_two_variants_with_one_prompt_counts_once():
    twice = pd.concat([GRADES, GRADES.assign(variant="zz")])
    assert chosen(twice) == chosen()
    assert matched(chosen(), twice) == matched(chosen())


def test_every_control_is_calm_of_the_variant_and_really_that_long():
    """Defect 9: a control's position must be in the completion, and the token there the one that is read."""
    onsets = {event.id: event for event in chosen()}
    found = matched(list(onsets.values()), target="written")
    for control in found.events:
        row, onset = ROW.loc[control.source], onsets[control.of]
        assert not row["onset_strict"] and not row["onset_relaxed"]
        assert (row["variant"], row["problem"], row["sample"]) == (control.variant, control.problem, control.sample)
        assert control.variant == onset.variant
        assert 0 <= control.token < row["n_tokens"]
        assert control.target == TOKENS[control.source][control.token]
        assert control.role == "context" or control.token == onset.token
        assert control.role == "position" or control.token in row["sentence_starts"]


def test_lens_controls_follow_their_own_onsets_target():
    """Defect 9: not the first event's token for all."""
    onsets = {event.id: event for event in chosen()}
    found = matched(list(onsets.values()))
    assert all(control.target == onsets[control.of].target for control in found.events)
    assert len({control.target for control in found.events}) > 10


def test_each_onset_has_at_most_one_control_of_a_role_and_the_rest_are_named():
    onsets = chosen()
    found = matched(onsets)
    for role in ("position", "context"):
        served = [event.of for event in of_role(found, role)]
        assert len(served) == len(set(served))
        assert sorted([*served, *found.unmatched[role]]) == sorted(event.id for event in onsets)


def test_an_onset_later_than_any_calm_completion_has_no_position_control():
    onsets = chosen()
    longest = max(event.token for event in onsets)
    short = GRADES[GRADES["onset_relaxed"] | (GRADES["n_tokens"] <= longest)]
    found = matched(onsets, short)
    assert {event.id for event in onsets if event.token == longest} <= set(found.unmatched["position"])
    assert found.unmatched["context"] == ()


def test_without_calm_completions_all_are_unmatched():
    onsets = chosen()
    found = matched(onsets, GRADES[GRADES["onset_relaxed"]])
    assert found.events == ()
    assert all(len(found.unmatched[role]) == len(onsets) for role in ("position", "context"))


def test_relaxed_triggers_make_a_completion_unfit():
    onsets = chosen()
    assert GRADES.eval("onset_relaxed and not onset_strict").any()
    only_relaxed = GRADES.assign(onset_relaxed=True)
    assert matched(onsets, only_relaxed).events == ()


def test_no_completion_serves_for_everything():
    onsets = chosen()
    found = matched(onsets)
    for variant in VARIANTS:
        served = sum(event.variant == variant for event in onsets)
        calm = GRADES.query("variant == @variant and not onset_relaxed")
        uses = Counter(event.source for event in of_role(found, "context") if event.variant == variant)
        assert max(uses.values()) <= -(-FAIR_SHARES * served // len(calm))
    places = [(event.source, event.token) for event in of_role(found, "context")]
    assert len(places) == len(set(places))


def test_the_nearest_free_sentence_start_is_taken():
    onset = chosen(limit=1)
    (control,) = of_role(matched(onset), "context")
    calm = GRADES[~GRADES["onset_relaxed"] & (GRADES["variant"] == onset[0].variant)]
    nearest = min(abs(start - onset[0].token) for starts in calm["sentence_starts"] for start in starts)
    assert abs(control.token - onset[0].token) == nearest


def test_few_places_are_used_again_when_none_is_left():
    onsets = chosen()
    one_each = GRADES.assign(sentence_starts=[[1]] * len(GRADES))
    lonely = pd.concat([group.head(1) for _, group in one_each[~one_each["onset_relaxed"]].groupby("variant")])
    found = matched(onsets, lonely)
    assert found.unmatched["context"] == () and {event.token for event in of_role(found, "context")} == {1}


def test_a_completion_shorter_than_its_grade_is_an_error():
    calm = GRADES[~GRADES["onset_relaxed"]].iloc[0]["key"]
    with pytest.raises(ValueError, match="differ in length"):
        matched(chosen(), token_ids=TOKENS | {calm: TOKENS[calm][:-1]})


def test_parquet_columns_read_the_same():
    """As Arrow reads them: lists as arrays, integers with nulls as floats."""
    read = GRADES.convert_dtypes(dtype_backend="pyarrow", convert_string=False)
    assert chosen(read) == chosen()
    assert matched(chosen(read), read) == matched(chosen())


def test_no_onsets_no_events():
    none = GRADES.assign(onset_strict=False)
    assert chosen(none) == [] and matched([]).events == ()
