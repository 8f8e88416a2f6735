"""Marks in keys: models whose numbers were wrong get new keys, all others keep theirs."""

from dataclasses import replace

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from raybt.config import Model
from raybt.plan.marks import marked
from raybt.plan.model_facts import resolve_model

LONG = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
KINDS = ("completion", "continuation", "scan", "lens")


def marks_of(settings):
    facts = replace(resolve_model(Model(name="raybt-toy")), settings=settings)
    return {kind: marked(facts, kind).split("+")[1:] for kind in KINDS}


@pytest.mark.parametrize(
    ("settings", "mark", "kinds"),
    [
        ({"model_type": "qwen2_moe", "use_sliding_window": True, "sliding_window": 4096}, "window", KINDS),
        ({"model_type": "phimoe", "sliding_window": 2047}, "window", KINDS),
        ({"model_type": "llama4_text", "attention_chunk_size": 8192}, "chunks", KINDS),
        ({"model_type": "phi3", "rope_scaling": LONG}, "longrope", KINDS),
        ({"model_type": "phi3", "rope_parameters": {"full_attention": LONG}}, "longrope", KINDS),
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "softcap", KINDS),
        ({"model_type": "gpt_oss"}, "probe", ("scan", "lens")),
        ({"model_type": "diffllama"}, "probe", ("scan", "lens")),
        ({"model_type": "olmo"}, "lens", ("lens",)),
        ({"model_type": "nemotron"}, "lens", ("lens",)),
    ],
)
def test_models_that_were_wrong_are_marked_in_the_rows_that_were(settings, mark, kinds):
    assert marks_of(settings) == {kind: [mark] if kind in kinds else [] for kind in KINDS}


@pytest.mark.parametrize(
    "name",
    ["qwen2", "qwen3", "llama", "mistral", "gemma", "gemma3_text", "gpt_neox", "gpt2", "phi3", "olmo2", "cohere2"],
)
def test_models_that_were_right_keep_their_keys(name):
    assert marks_of(CONFIG_MAPPING[name]().to_dict()) == {kind: [] for kind in KINDS}


def test_a_qwen2_moe_that_uses_no_window_keeps_them_too():
    assert not any(marks_of({"model_type": "qwen2_moe", "use_sliding_window": False, "sliding_window": 4096}).values())


def test_the_shipped_models_keys_are_those_of_its_fingerprint_alone():
    facts = resolve_model(Model(name="raybt-toy"))
    assert {marked(facts, kind) for kind in KINDS} == {facts.fingerprint}
