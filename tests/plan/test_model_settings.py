"""What a config.json tells: models that are taken, and how far; test_bad_input.py has what is refused."""

import json
from importlib.machinery import ModuleSpec

import pytest
import torch
from transformers import (
    DeepseekV3Config,
    Gemma3Config,
    GPT2Config,
    GptOssConfig,
    Llama4Config,
    LlamaConfig,
    Phi3Config,
    PhimoeConfig,
    Qwen2Config,
    T5Config,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding
from transformers.models.phimoe.modeling_phimoe import PhimoeRotaryEmbedding

from raybt.config import Model
from raybt.engine.features import reach
from raybt.errors import UserError
from raybt.plan import known, model_settings
from raybt.plan.model_facts import resolve_model
from raybt.plan.model_settings import rope_switch
from tests.plan.models import model_folder, write_settings

BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
MXFP4 = {"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"}
LONG = {"type": "longrope", "long_factor": [2.0] * 48, "short_factor": [1.0] * 48}


def published(folder, config, **more):
    """A model folder with the config.json that transformers writes of a config, and more in it."""
    model_folder(folder)
    config.save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **more}))
    return folder


def facts(folder, **model):
    return resolve_model(Model(name=str(folder), **model))


def refused(folder, **model) -> UserError:
    with pytest.raises(UserError) as error:
        facts(folder, **model)
    assert "\n" not in str(error.value)
    return error.value


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (
            Qwen2Config(num_hidden_layers=28, num_attention_heads=12, architectures=["Qwen2ForCausalLM"]),
            (28, 12, 32768),
        ),
        (Gemma3Config(architectures=["Gemma3ForConditionalGeneration"]), (26, 8, 131072)),
        (Llama4Config(architectures=["Llama4ForConditionalGeneration"]), (48, 40, 8175)),  # its temperature
        (GptOssConfig(), (36, 64, 131072)),
        (DeepseekV3Config(), (61, 128, 4096)),
        (GPT2Config(architectures=["GPT2LMHeadModel"]), (12, 12, 1024)),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_decoders_are_taken(tmp_path, config, size):
    found = facts(published(tmp_path / "m", config))
    assert (found.n_layers, found.n_heads, found.context_length) == size
    assert found.switch == (8175 if size[2] == 8175 else None)
    assert found.vocab_size == config.get_text_config().vocab_size


def test_what_a_published_config_leaves_out_is_the_default_of_its_model_type(tmp_path):
    """As google/gemma-3-4b-it has it: no heads, no context, no vocabulary."""
    text = {"hidden_size": 2560, "model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window": 1024}
    text["rope_scaling"] = {"factor": 8.0, "rope_type": "linear"}
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    found = facts(folder)
    assert (found.n_layers, found.n_heads, found.context_length, found.vocab_size) == (34, 8, 131072, 262208)
    assert found.settings == {"model_type": "gemma3_text", "text_config": text, **text}


@pytest.mark.parametrize(
    "settings", [{"num_attention_heads": [4, 8]}, {"model_type": "llama", "num_hidden_layers": "x"}]
)
def test_a_size_that_is_no_number_is_no_default(tmp_path, settings):
    assert "neither" in str(refused(write_settings(model_folder(tmp_path / "m"), **settings)).value)


# ---- code and kind ----

OWN = {"AutoConfig": "configuration_mine.MyConfig", "AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}


def test_a_models_own_code_needs_trust_unless_transformers_has_it(tmp_path):
    folder = write_settings(model_folder(tmp_path / "m"), model_type="mine", auto_map=OWN)
    error = refused(folder)
    assert "trust_remote_code" in error.rule and "modeling_mine.MineForCausalLM" in error.value
    assert "model.trust_remote_code: true" in error.fix
    assert facts(folder, trust_remote_code=True).n_layers == 6
    assert facts(write_settings(folder, auto_map=OWN)).n_layers == 6


def test_an_unknown_model_type_is_refused(tmp_path):
    error = refused(write_settings(model_folder(tmp_path / "m"), model_type="qwen99"))
    assert known.VERSION in error.rule and "qwen99" in error.value and "newer transformers" in error.fix


def test_a_transformers_that_keeps_its_tables_elsewhere_refuses_no_model(tmp_path, monkeypatch):
    for table in ("model_types", "decoders", "quantisations"):
        monkeypatch.setattr(known, table, frozenset)
    folder = write_settings(
        model_folder(tmp_path / "m"), model_type="qwen99", quantization_config={"quant_method": "x"}
    )
    assert facts(folder).n_layers == 6


def test_models_that_are_no_decoders_are_refused(tmp_path):
    encoder_decoder = published(tmp_path / "t5", T5Config())
    assert "encoder-decoder" in refused(encoder_decoder).value
    masked = write_settings(model_folder(tmp_path / "bert"), model_type="bert", architectures=["BertForMaskedLM"])
    assert "BertForMaskedLM" in refused(masked).value
    headless = write_settings(model_folder(tmp_path / "e5"), model_type="mistral", architectures=["MistralModel"])
    assert "MistralModel" in refused(headless).value and "decoder-only" in refused(headless).fix


def test_a_model_that_sees_is_refused_where_transformers_does_not_load_it_as_a_decoder(tmp_path):
    folder = model_folder(tmp_path / "m")
    error = refused(write_settings(folder, model_type="mistral3", text_config={"model_type": "mistral"}))
    assert "mistral3" in error.value and "its language model alone (mistral)" in error.fix


# ---- quantisation ----


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize(
    ("asked", "packages"),
    [
        (BITS, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"bits": 4, "quant_method": "gptq"}, "optimum gptqmodel"),
        ({"bits": 4, "quant_method": "awq"}, "gptqmodel"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors"),
        ({"quant_method": "quanto"}, "optimum-quanto"),
        ({"quant_method": "aqlm"}, "'aqlm[gpu,cpu]'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_quantised_model_needs_its_package(tmp_path, monkeypatch, asked, packages, installed):
    monkeypatch.setattr(model_settings, "find_spec", lambda name: ModuleSpec(name, None) if installed else None)
    folder = write_settings(model_folder(tmp_path / "m"), quantization_config=asked)
    if installed:
        assert facts(folder).n_layers == 6
    else:
        assert f"pip install {packages}, here" in refused(folder).fix


@pytest.mark.parametrize(
    "config",
    [
        GptOssConfig(quantization_config=MXFP4),
        DeepseekV3Config(quantization_config=FP8),
        LlamaConfig(quantization_config=None),
    ],
    ids=["mxfp4", "fp8", "none"],
)
def test_what_transformers_unpacks_itself_needs_no_package(tmp_path, config):
    assert facts(published(tmp_path / "m", config)).n_layers


def test_a_section_of_its_own_is_looked_into(tmp_path):
    text = {"model_type": "gemma3_text", "quantization_config": {"quant_method": "exl3"}}
    assert "exl3" in refused(write_settings(model_folder(tmp_path / "m"), model_type="gemma3", text_config=text)).value


# ---- rotary frequencies ----


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_longrope_ends_where_its_frequencies_switch(tmp_path, kind):
    rope = {**LONG, "type": kind}
    settings = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rope_scaling": rope}
    found = facts(published(tmp_path / "m", Phi3Config(), **settings, rope_parameters=None))
    assert (found.context_length, found.switch) == (4096, 4096)


SWITCHING = {
    "longrope": (Phi3Config, Phi3RotaryEmbedding, LONG),
    "longrope inside": (Phi3Config, Phi3RotaryEmbedding, {**LONG, "original_max_position_embeddings": 4096}),
    "dynamic": (LlamaConfig, LlamaRotaryEmbedding, {"rope_type": "dynamic", "factor": 2.0}),
    "mscale": (
        PhimoeConfig,
        PhimoeRotaryEmbedding,
        {
            "rope_type": "longrope",
            **dict.fromkeys(("long_factor", "short_factor"), [1.0] * 64),
            **{"long_mscale": 1.2, "short_mscale": 1.1, "original_max_position_embeddings": 4096},
        },
    ),
}


@pytest.mark.parametrize(("config", "rotary", "rope"), SWITCHING.values(), ids=SWITCHING)
def test_the_switch_is_where_transformers_changes_what_position_one_gets(config, rotary, rope):
    def first(length):  # cosines of position 1 in a batch of this many positions
        return rotary(made)(torch.zeros(1), torch.arange(length)[None])[0][0, 1]

    made = config(max_position_embeddings=8192, rope_parameters={"rope_theta": 1e4, **rope})
    switch = rope_switch(made.to_dict())
    assert switch == (8192 if config is LlamaConfig else 4096)
    assert reach(made) == switch  # the engine reads transformers' config, planning config.json without torch
    assert torch.equal(first(2), first(switch)) and not torch.equal(first(switch), first(switch + 1))
    same = config(max_position_embeddings=8192, rope_parameters={"rope_theta": 1e4, "rope_type": "default"})
    assert rope_switch(same.to_dict()) is reach(same) is None


def rope(kind="llama", **settings):
    return rope_switch({"model_type": kind, "max_position_embeddings": 8192, **settings})


def test_every_way_to_say_where_frequencies_switch():
    inside = {**LONG, "original_max_position_embeddings": 2048}
    assert rope(rope_parameters=inside) == rope(rope_scaling=inside) == 2048
    assert rope(rope_scaling=LONG) == rope(rope_scaling={"type": "dynamic", "factor": 2.0}) == 8192
    assert rope(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}) == 8192
    plain = {"rope_type": "default", "rope_theta": 1e4}
    assert rope(rope_parameters={"sliding_attention": plain, "full_attention": inside}) == 2048


def test_frequencies_that_never_switch_limit_nothing():
    plain, yarn = {"rope_type": "default"}, {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    assert [rope(rope_scaling=one) for one in (None, plain, yarn, {**plain, "rope_type": "llama3"})] == [None] * 4
    assert (
        rope(rope_parameters={"sliding_attention": plain, "full_attention": {**plain, "rope_type": "linear"}}) is None
    )
    assert rope(rope_parameters={"sliding_attention": None, "full_attention": plain}) is None
    same = {**LONG, "long_factor": LONG["short_factor"]}
    assert rope("phi3", rope_scaling=same) is None
    assert rope("phimoe", rope_scaling={**same, "long_mscale": 1.2, "short_mscale": 1.1}) == 8192
