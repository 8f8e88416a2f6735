"""Edits of a run's config: which may stand."""

import pyarrow as pa
import pytest

from raybt.errors import UserError
from raybt.load import validate
from raybt.plan.changes import Changes, compare, compare_prompts
from raybt.store.schemas import PROMPTS

BASE = {
    "name": "run-1",
    "model": {"name": "org/model"},
    "problems": {"name": "p.jsonl"},
    "prompt": {"template": "{question}", "variants": {"a": None, "b": "!"}},
    "sampling": {"samples": 2, "temperature": 0.7},
    "interventions": {
        "subsets": {"late": ["mlp.4", "mlp.5"], "first": ["attn.0"], "unused": ["attn.1"]},
        "grids": {"sweep": {"subsets": ["late", "first"], "scales": [0, 0.5]}},
    },
}


def edited(path: str, value, base=BASE):
    """BASE with the value at a dotted path replaced, or removed where the value is None and the key ends in `-`."""
    keys = path.split(".")
    if len(keys) == 1:
        return {**base, keys[0]: value}
    return {**base, keys[0]: edited(".".join(keys[1:]), value, base.get(keys[0], {}))}


def changes(path, value, old=BASE, fingerprints=("f", "f")):
    return compare(validate(old), validate(edited(path, value, old)), *fingerprints)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("prompt.system", "Be brief."),
        ("prompt.template", "Q: {question}"),
        ("prompt.chat", True),
        ("prompt.variants", {"a": None, "b": "?"}),
        ("sampling.temperature", 0.8),
        ("sampling.top_p", 0.9),
        ("sampling.top_k", 5),
        ("sampling.max_new_tokens", 99),
        ("sampling", {"samples": 1, "greedy": True}),
        ("interventions.subsets.late", ["mlp.4"]),
        ("interventions.grids.sweep.positions", "generated"),
    ],
)
def test_edits_that_change_keys_are_refused_by_name(path, value):
    found = changes(path, value)
    assert len(found.refused) >= 1 and path.split(".")[-1] in " ".join(found.refused)
    with pytest.raises(UserError, match=r"--set name=run-2") as error:
        found.check("run-1")
    assert "->" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sampling.samples", 5),
        ("problems.limit", 5),
        ("problems.shuffle_seed", 5),
        ("problems.name", "q.jsonl"),
        ("prompt.variants", {"a": None, "b": "!", "c": "?"}),
        ("prompt.variants", {"a": None}),
        ("interventions.subsets.late", ["mlp.4-5"]),
        ("interventions.subsets.unused", ["attn.2"]),
        ("interventions.subsets.new", ["attn.2"]),
        ("interventions.grids.sweep.scales", [0]),
        ("interventions.grids.sweep.subsets", ["late"]),
        ("interventions.grids.second", {"subsets": ["unused"]}),
        ("interventions.grids", {}),
        ("triggers.strict", ["Wait"]),
        ("replicas.count", 2),
        ("artifacts", "elsewhere"),
        ("model.device", "cpu"),
        ("model.attention", "eager"),
        ("model.name", "./copy"),
    ],
)
def test_edits_that_add_drop_or_touch_no_key_are_logged(path, value):
    found = changes(path, value)
    assert found.refused == [] and len(found.additive) == 1 and found.additive[0].startswith(path)
    found.check("run-1")


STAGED = {
    **BASE,
    "interventions": {
        "subsets": {"late": ["mlp.4"], "found": {"from": "scan", "top": 2}, "best": {"cumulative": {"from": "scan"}}},
        "grids": {"sweep": {"subsets": ["late", "found", "best"], "controls": 2}},
    },
    "stages": {
        "scan": {"kind": "scan", "events": 9},
        "after": {"kind": "continuation", "subsets": ["late"]},
        "search": {"kind": "search", "subsets": ["late"]},
    },
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.scan.events", 10),
        ("stages.scan.sites", ["mlp.*"]),
        ("stages.scan.problems", "all"),
        ("stages.after.scales", [0, 0.5]),
        ("stages.after.max_new_tokens", 9),
        ("stages.search.margin", 0.2),
        ("stages.search.keep", 0.5),
        ("problems.select", 0.4),
        ("triggers.strict", ["Wait"]),
        ("triggers.alternatives", ["But"]),
        ("interventions.subsets.found", {"from": "scan", "top": 3}),
        ("interventions.subsets.best", {"cumulative": {"from": "scan", "top": 3}}),
        ("interventions.grids.sweep.controls", 3),
        ("interventions.grids.sweep.directions", 3),
    ],
)
def test_what_decisions_rest_on_is_refused(path, value):
    found = changes(path, value, STAGED)
    assert found.refused and all(line.startswith(path) for line in found.refused), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.after.draws", 9),
        ("stages.lens", {"kind": "lens"}),
        ("stages", {name: stage for name, stage in STAGED["stages"].items() if name != "search"}),
        ("interventions.subsets.all", {"each": ["mlp.*"]}),
        ("interventions.grids.sweep.problems", "select"),
    ],
)
def test_more_or_fewer_stages_subsets_and_draws_are_logged(path, value):
    found = changes(path, value, STAGED)
    assert found.refused == [] and len(found.additive) == 1


def test_triggers_are_in_the_keys_of_what_is_on_after_them():
    after = edited("interventions.grids.sweep", {"subsets": ["late"], "positions": "after_trigger", "window": [0, 4]})
    assert changes("triggers.strict", ["Wait"], after).refused
    assert changes("triggers.relaxed", ["Hm"], after).refused == []


def test_no_edit_is_no_change():
    assert changes("name", "run-1") == Changes()
    assert changes("prompt.chat", False) == Changes()


def test_under_greedy_decoding_what_draws_is_free():
    greedy = edited("sampling", {"greedy": True, "temperature": 0.7})
    assert changes("sampling.temperature", 0.8, greedy).refused == []
    assert changes("seed", 9, greedy).refused == []
    assert changes("sampling.max_new_tokens", 9, greedy).refused


def test_another_model_is_refused_with_the_field_that_names_it():
    found = changes("model.name", "org/other", fingerprints=("f", "g"))
    assert found.refused == ["model.name: 'org/model' -> 'org/other'", "model fingerprint: 'f' -> 'g'"]
    assert changes("name", "run-1", fingerprints=("f", "g")).refused == ["model fingerprint: 'f' -> 'g'"]


def test_another_device_is_logged_as_other_rounding():
    assert "rounding" in changes("model.device", "cpu").additive[0]


def test_another_precision_is_neither_accepted_nor_refused_but_left_to_the_user():
    found = changes("model.dtype", "bfloat16")
    assert (found.additive, found.refused, found.mixed) == ([], [], ["model.dtype: 'float32' -> 'bfloat16'"])
    found.check("run-1")
    with pytest.raises(UserError, match="rows in one precision.*float32.*bfloat16.*--set name=run-2.*--allow-mixed"):
        found.check_mixed("run-1")
    assert found.accepted(rows=False) == found.mixed and "side by side" in found.accepted(rows=True)[0]
    changes("model.device", "cpu").check_mixed("run-1")


def prompts(*rows):
    names = ("variant", "problem", "question", "gold", "text", "token_ids")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=PROMPTS)


OLD = prompts(("a", "p1", "q", "1", "q", [1, 2]), ("b", "p1", "q", "1", "q!", [1, 3]), ("a", "p2", "q", "2", "q", [4]))


def test_other_prompts_under_the_same_name_are_refused():
    new = prompts(("a", "p1", "Q", "1", "Q", [9]), ("a", "p3", "q", "2", "q", [4]))
    assert compare_prompts(OLD, new).refused == ["prompt a of problem p1 (other tokens)"]


def test_other_gold_answers_are_logged_once_a_problem():
    new = prompts(("a", "p1", "q", "7", "q", [1, 2]), ("b", "p1", "q", "7", "q!", [1, 3]))
    assert compare_prompts(OLD, new) == Changes(["gold answer of problem p1: '1' -> '7'"], [])


def test_many_other_prompts_are_named_in_one_short_line():
    old, new = (prompts(*[("a", f"p{n}", "q", "1", "q", [n, extra]) for n in range(500)]) for extra in (1, 2))
    assert compare_prompts(old, new).refused[-1] == "and 497 more prompts"
