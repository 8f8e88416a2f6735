"""Events -> measurements and their work: keys that grow with nothing else, one work item a key."""

import json

import numpy as np
import pyarrow as pa
import pytest

from raybt.plan.rows import WORK, make_plan
from raybt.store.schemas.study import MEASUREMENTS, TEXTS
from raybt.study.decisions import Decision, Decisions
from raybt.study.layout import find_families, lay_out
from raybt.study.measure import AT_THE_STEP, Planner, first_tokens
from tests.study.configs import facts, ids, study

STAGES = {
    "scan": {"kind": "scan", "sites": ["mlp.0-1"]},
    "lens": {"kind": "lens"},
    "cont": {"kind": "continuation", "subsets": ["fixed"], "scales": [0, 1], "draws": 2, "max_new_tokens": 5},
}
TEXT = {"k1": (3, [7, 8, 9, 20, 21, 22, 23]), "k2": (2, [7, 8, 30, 31, 32])}


def event(source="k1", token=2, role="onset", **more):
    return {"source": source, "variant": "default", "problem": "p", "sample": 0, "token": token, "target": 22,
            "role": role, "of": f"{source}:{token}", **more}  # fmt: skip


def measured(stages=STAGES, events=None, **sections):
    config = study(stages, **sections)
    known = facts(config)
    chosen = {"events": events or [event(), event("k2", 1, "position", of="k1:2", target=31)]}
    decided = Decisions(Decision(f"events:{name}", chosen, "", "") for name in stages)
    layout = lay_out(config, known, decided, ids(config), made=("scan.means",))
    vectors = {"scan.means": {f"mlp.{layer}": np.ones(128, np.float32) * (layer + 1) for layer in range(6)}}
    planner = Planner(config, known, layout, find_families(config, known, decided), TEXT, vectors)
    return config, known, planner.plan(decided)


@pytest.fixture(scope="module")
def made():
    return measured()


def of_kind(table, kind):
    return [row for row in table.to_pylist() if row["kind"] == kind]


def test_schemas_and_counts(made):
    _, _, found = made
    assert found.rows.schema.equals(MEASUREMENTS) and found.texts.schema.equals(TEXTS)
    assert found.work.schema.equals(WORK) and found.work.num_rows == found.rows.num_rows
    counts = {kind: len(of_kind(found.rows, kind)) for kind in ("scan", "lens", "step", "continuation")}
    assert counts == {"scan": 2, "lens": 2, "step": 2 * 3, "continuation": 2 * 3 * 2}


def test_each_key_is_one_piece_of_work(made):
    config, known, found = made
    plan = make_plan(config, known, layout=lay_out(config, known, Decisions(), ids(config), ())).measuring(
        found.rows, found.texts, found.work
    )
    keys = plan.work["key"].to_pylist()
    assert len(set(keys)) == len(keys) and set(found.rows["key"].to_pylist()) <= set(keys)


def test_a_scan_asks_for_every_site_under_every_operation_and_the_trigger_set(made):
    config, known, found = made
    spec = json.loads(of_kind(found.work, "scan")[0]["spec"])
    scaled, replaced = spec["interventions"][:2], spec["interventions"][2:]
    assert scaled == ['[["mlp.0","scale",0.0]]', '[["mlp.1","scale",0.0]]']
    assert [json.loads(text)[0][:3] for text in replaced] == [["mlp.0", "mean", 1.0], ["mlp.1", "mean", 1.0]]
    assert spec["triggers"] == first_tokens(config.triggers.strict, known)
    taken = [token for word in spec["words"] for token in word]
    assert len(spec["words"]) == len(config.triggers.alternatives) and not set(taken) & set(spec["triggers"])
    assert len(set(taken)) == len(taken)


def test_a_space_that_is_a_token_of_its_own_is_no_trigger(made):
    _, known, _ = made
    assert known.tokenizer.tokenize(" Wait") == ["\u0120", "Wait"]
    read = known.tokenizer.convert_ids_to_tokens(first_tokens(["Wait", "Actually", "Hold on"], known))
    assert sorted(read) == ["Actually", "Hold", "Wait"]


def test_scale_one_is_the_baseline_and_is_asked_for_once(made):
    _, _, found = made
    steps = of_kind(found.rows, "step")
    by_condition = {row["condition"]: row["intervention"] for row in steps}
    assert by_condition == {"baseline": "[]", "fixed@0": '[["mlp.2","scale",0.0]]', "fixed@1": "[]"}
    specs = [json.loads(row["spec"])["interventions"] for row in of_kind(found.work, "scan") if len(row["spec"]) < 300]
    assert ["[]", '[["mlp.2","scale",0.0]]'] in specs
    draws = [row for row in of_kind(found.rows, "continuation") if row["event"] == "k1:2"]
    keys = {(row["condition"], row["draw"]): row["key"] for row in draws}
    assert (
        keys["baseline", 0] == keys["fixed@1", 0] != keys["fixed@0", 0] and keys["baseline", 0] != keys["baseline", 1]
    )


def test_draws_share_their_noise_across_conditions_and_continue_the_prefix(made):
    _, _, found = made
    streams = {}
    for row, work in zip(found.rows.to_pylist(), found.work.to_pylist(), strict=True):
        if row["kind"] == "continuation":
            streams.setdefault((row["event"], row["draw"]), set()).add(work["stream"])
            assert work["max_new_tokens"] == 5 and work["token"] == row["token"]
            assert work["positions"] == (AT_THE_STEP if row["intervention"] != "[]" else "decode")
    assert len(streams) == 4 and all(len(one) == 1 for one in streams.values())
    assert len({number for one in streams.values() for number in one}) == 4


def test_more_events_void_no_key(made):
    _, _, found = made
    _, _, more = measured(events=[event(), event("k2", 1, "position", of="k1:2", target=31), event("k1", 3, target=23)])
    assert set(found.rows["key"].to_pylist()) < set(more.rows["key"].to_pylist())


def test_other_triggers_are_other_measurements(made):
    _, _, found = made
    _, _, other = measured(triggers={"strict": ["Wait"]})
    for kind, same in (("lens", True), ("scan", False)):
        keys = [{row["key"] for row in of_kind(table.rows, kind)} for table in (found, other)]
        assert (keys[0] == keys[1]) == same


def test_a_stage_waits_until_its_texts_are_there():
    _, _, found = measured(events=[event("lost")])
    assert found.rows.num_rows == 0


def test_measured_rows_pack_into_the_same_blocks_of_work(made):
    _, _, found = made
    joined = pa.concat_tables([found.work.slice(0, 3), found.work.slice(3)])
    assert joined.to_pylist() == found.work.to_pylist()
