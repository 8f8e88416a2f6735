import math

import pandas as pd
import pytest

from raybt.config import Triggers
from raybt.measure.statistics import clustered_rate, paired_difference
from raybt.measure.study.phrases import phrases_table
from raybt.store.schemas.study import PHRASE_TABLE
from tests.measure.study.made import row

TRIGGERS = Triggers(strict=("Wait", "Actually"), relaxed=("mistake",), alternatives=("But",))
HELD = {  # condition -> phrases of problem a's two samples, then of b's
    "baseline": ["Wait Wait", "Wait But", "Wait", ""],
    "cut": ["But", "But mistake", "", None],  # None: not done
}


def inputs():
    rows, events = [], []
    for condition, texts in HELD.items():
        for number, text in enumerate(texts):
            key = f"{condition}{number}"
            place = {"stage": "grid", "condition": condition, "variant": "default", "problem": "aabb"[number]}
            rows.append({**place, "sample": number % 2, "key": key, "verdict": None if text is None else "wrong"})
            for phrase in (text or "").split():
                tier = {"mistake": "relaxed", "But": "alternative"}.get(phrase, "strict")
                events.append({"key": key, "tier": tier, "phrase": phrase})
    return pd.DataFrame(rows), pd.DataFrame(events)


def test_numbers_by_hand():
    table = phrases_table(*inputs(), TRIGGERS)
    assert table.schema == PHRASE_TABLE and table.num_rows == 8
    base, cut = (row(table, condition=name, phrase="Wait") for name in ("baseline", "cut"))
    assert (base["tier"], base["done"], base["completions"], base["rate"]) == (
        "strict",
        4,
        3,
        0.75,
    )  # twice in one counts once
    assert (cut["done"], cut["completions"], cut["rate"], cut["difference"]) == (3, 0, 0, -1)
    expected = clustered_rate([1, 1, 1, 0], list("aabb"))
    assert (base["rate"], base["rate_low"], base["rate_high"]) == pytest.approx(expected)


def test_the_difference_is_paired_and_the_baseline_has_none():
    table = phrases_table(*inputs(), TRIGGERS)
    line = row(table, condition="cut", phrase="But")
    difference, low, high, _ = paired_difference([0, 1, 0], [1, 1, 0], list("aab"))
    assert line["difference"] == pytest.approx(difference) == pytest.approx(1 / 3)
    assert (line["difference_low"], line["difference_high"]) == pytest.approx((max(low, -1), min(high, 1)))
    assert math.isnan(row(table, condition="baseline", phrase="But")["difference"])


def test_phrases_that_never_occur_stand_there_too():
    line = row(phrases_table(*inputs(), TRIGGERS), condition="baseline", phrase="Actually")
    assert (line["completions"], line["rate"]) == (0, 0) and line["rate_high"] > 0


def test_each_variant_has_its_own_baseline():
    rows, events = inputs()
    other = rows.assign(variant="plain", key="plain " + rows["key"])
    table = phrases_table(pd.concat([rows, other], ignore_index=True), events, TRIGGERS)
    assert row(table, variant="plain", condition="cut", phrase="But")["difference"] == 0
    assert row(table, variant="default", condition="cut", phrase="But")["difference"] > 0


def test_nothing_done():
    rows, events = inputs()
    assert phrases_table(rows.assign(verdict=None), events, TRIGGERS).num_rows == 0
