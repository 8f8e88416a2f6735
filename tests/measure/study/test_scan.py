import json
import math
import time

import numpy as np
import pyarrow as pa
import pytest

from raybt.measure.statistics import holm, paired_difference
from raybt.measure.study.scan import scan_table
from raybt.store.schemas.study import SCAN_TABLE
from tests.measure.study.made import effect, plan, row, scans

ZERO, MEAN = '[["mlp.3","scale",0.0]]', '[["mlp.3","mean",1.0,"ab12"]]'
HEAD = '[["head.2.5","scale",0.0]]'
PROBLEMS = "aabbccddeeff"


def event(number, **more):
    return {"key": f"e{number}", "problem": PROBLEMS[number], **more}


def scanned(masses, control=None, n=6, floor=0.001, kl=0.2, kl_trigger=0.19, spread=0.005):
    """A scan of one site at n onsets in as many problems, and two controls; `masses` after its removal, 0.5 before."""
    onsets = [event(2 * i) for i in range(n)]
    controls = [event(1 + 2 * i, key=f"c{i}", role=role) for i, role in enumerate(("position", "context"))]
    rows = [
        {
            "key": f"e{2 * i}",
            "floor_mass": floor,
            "effects": [effect(ZERO, masses[i], kl=kl + spread * i, kl_trigger=kl_trigger)],
        }
        for i in range(n)
    ]
    rows += [{"key": f"c{i}", "effects": [effect(ZERO, 0.0, **(control or {}))]} for i in range(2)]
    return scan_table(plan(*onsets, *controls), scans(*rows)).to_pylist()[0]


FALLS = (0.30, 0.31, 0.29, 0.32, 0.28, 0.30)


def test_numbers_by_hand():
    table = scan_table(
        plan(
            *(event(i) for i in (0, 1, 2)),
            event(3, key="lost"),
            event(4, key="c0", role="position"),
            event(6, key="c1", role="context"),
        ),
        scans(
            {
                "key": "e0",
                "trigger_mass": 0.5,
                "floor_mass": 0.01,
                "effects": [effect(ZERO, 0.2, -1, kl=0.3, kl_trigger=0.2)],
            },
            {
                "key": "e1",
                "trigger_mass": 0.4,
                "floor_mass": 0.02,
                "effects": [effect(ZERO, 0.3, -2, kl=0.1, kl_trigger=0.1)],
            },
            {
                "key": "e2",
                "trigger_mass": 0.1,
                "floor_mass": 0.01,
                "effects": [effect(ZERO, 0.3, 3, kl=0.5, kl_trigger=0.4)],
            },
            {"key": "c0", "floor_mass": 0.9, "effects": [effect(ZERO, 0.0, -0.5, kl=0.1)]},
            {"key": "c1", "floor_mass": 0.9, "effects": [effect(ZERO, 0.0, -1.5, kl=0.3, agrees=False)]},
        ),
    )
    assert table.schema == SCAN_TABLE
    (line,) = table.to_pylist()
    assert (line["site"], line["kind"], line["layer"], line["head"], line["operation"]) == (
        "mlp.3",
        "mlp",
        3,
        None,
        "zero",
    )
    assert (line["planned"], line["done"], line["failed"], line["controls"], line["problems"]) == (4, 3, 1, 2, 2)
    assert line["target_change"] == 0
    assert line["trigger_change"] == pytest.approx((-0.3 - 0.1 + 0.2) / 3)
    assert (line["kl"], line["kl_trigger"]) == pytest.approx((0.3, 0.7 / 3))
    assert line["specific"] == pytest.approx((0.1 + 0.1 - 0.5) / 3)  # 0.2 - 0.1, 0.1 - 0, and -0.4 - 0.1: it rose there
    assert (line["control_change"], line["control_kl"], line["control_agreement"]) == pytest.approx((-1, 0.2, 0.5))
    assert line["floor"] == 0.02  # of the onsets, not of the controls
    slow = paired_difference([0.5, 0.4, 0.1], [0.2, 0.3, 0.3], ["a", "a", "b"])
    assert [
        line[name] for name in ("trigger_change", "trigger_change_low", "trigger_change_high", "p")
    ] == pytest.approx(slow)


@pytest.mark.parametrize(
    ("masses", "more", "verdict"),
    [
        (FALLS, {}, "qualifies"),
        (FALLS, {"n": 1}, "incomplete"),
        (FALLS, {"control": {"agrees": False}}, "breaks the model"),
        (FALLS, {"floor": 0.3}, "under the noise floor"),
        ((0.2, 0.6, 0.4, 0.6, 0.3, 0.6), {}, "no evidence"),
        ([1 - mass for mass in FALLS], {}, "raises"),
        (FALLS, {"kl": 0.5, "kl_trigger": 0.1}, "not specific"),
        (FALLS, {"spread": 0}, "not specific"),  # no interval can be estimated, so nothing is shown
        (FALLS, {"n": 1, "control": {"agrees": False}}, "incomplete"),  # the first that holds
    ],
)
def test_verdicts(masses, more, verdict):
    assert scanned(masses, **more)["verdict"] == verdict


def test_half_of_the_controls_may_change():
    onsets = [event(2 * i) for i in range(6)]
    rows = [
        {"key": f"e{2 * i}", "effects": [effect(ZERO, FALLS[i], kl=0.2 + i / 100, kl_trigger=0.19)]} for i in range(6)
    ]
    for changed, of, verdict in ((1, 2, "qualifies"), (2, 3, "breaks the model")):
        controls = [{"key": f"c{i}", "problem": "z", "role": "context"} for i in range(of)]
        there = [{"key": one["key"], "effects": [effect(ZERO, agrees=i >= changed)]} for i, one in enumerate(controls)]
        assert scan_table(plan(*onsets, *controls), scans(*rows, *there)).to_pylist()[0]["verdict"] == verdict


def test_holm_counts_the_sites_of_one_operation_and_the_most_specific_stand_first():
    rng, sites = np.random.default_rng(0), [f'[["mlp.{i}","scale",0.0]]' for i in range(4)]
    means = [text.replace('"scale",0.0', '"mean",1.0,"ab"') for text in sites]
    rows = [
        {
            "key": f"e{i}",
            "effects": [
                effect(text, 0.5 - 0.1 * j * rng.random(), kl=0.1 * j + 0.01 * rng.random(), kl_trigger=0.1 * j)
                for j, text in enumerate([*sites, *means])
            ],
        }
        for i in range(12)
    ]
    table = scan_table(plan(*(event(i) for i in range(12))), scans(*rows)).to_pylist()
    for operation in ("zero", "mean"):
        family = [one for one in table if one["operation"] == operation]
        assert len(family) == 4
        assert [one["p_holm"] for one in family] == pytest.approx(holm([one["p"] for one in family]))
        specific = [one["specific"] for one in family]
        assert specific == sorted(specific, reverse=True) and family[0]["site"] == "mlp.3"


def test_heads_means_and_other_factors_are_told_apart():
    half = '[["mlp.3","scale",0.5]]'
    table = scan_table(
        plan(event(0)), scans({"key": "e0", "effects": [effect(text) for text in (ZERO, MEAN, HEAD, half)]})
    )
    assert {(one["site"], one["operation"], one["layer"], one["head"]) for one in table.to_pylist()} == {
        ("mlp.3", "zero", 3, None),
        ("mlp.3", "mean", 3, None),
        ("head.2.5", "zero", 2, 5),
        ("mlp.3", "scale", 3, None),
    }
    assert math.isnan(row(table, site="head.2.5")["control_agreement"])


def test_a_stage_of_which_nothing_is_done_is_still_counted():
    (line,) = scan_table(plan(event(0), event(2)), scans()).to_pylist()
    assert (line["site"], line["planned"], line["done"], line["failed"]) == (None, 2, 0, 2)
    assert line["verdict"] == "incomplete"
    assert scan_table(plan(event(0)).head(0), scans()).num_rows == 0


def test_all_heads_at_400_events_take_seconds():
    rng, texts = (
        np.random.default_rng(0),
        [json.dumps([[f"head.{i // 16}.{i % 16}", "scale", 0.0]]) for i in range(450)],
    )
    n = 400 * len(texts)
    numbers = {name: rng.random(n) for name in ("target_change", "trigger_mass", "kl", "kl_trigger")}
    effects = pa.StructArray.from_arrays(
        [pa.array(texts * 400), *map(pa.array, numbers.values()), pa.array(rng.random(n) < 0.9), pa.array([[]] * n)],
        names=["intervention", *numbers, "agrees", "words"],
    )
    empty = scans(*({"key": f"e{i}", "effects": []} for i in range(400)))
    lists = pa.ListArray.from_arrays(pa.array(range(0, n + 1, 450), pa.int32()), effects)
    field = empty.schema.field("effects")
    full = empty.set_column(empty.schema.get_field_index("effects"), field, lists.cast(field.type))
    planned = plan(*({"key": f"e{i}", "problem": f"p{i % 100}"} for i in range(400)))
    started = time.perf_counter()
    table = scan_table(planned, full)
    assert time.perf_counter() - started < 5
    assert table.num_rows == 450 and set(table["done"].to_pylist()) == {400}
    line = row(table, site="head.0.1")
    assert line["kl"] == pytest.approx(numbers["kl"][1::450].mean())
