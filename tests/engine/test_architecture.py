"""The proof of an architecture: what it lets pass, what it refuses by name, what planted faults it sees."""

from dataclasses import replace

import pytest
import torch
import transformers
from packaging.version import Version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from raybt.engine import architecture
from raybt.engine.anatomy import unsupported
from raybt.engine.architecture import prove_architecture
from raybt.engine.decode import Decoder
from raybt.engine.features import reach
from raybt.engine.load import architecture_of, attention_for, load_model
from raybt.engine.masks import Masks, Sight
from raybt.engine.probe import lens, shared
from raybt.engine.request import Request, Sampling
from raybt.engine.shrink import SWITCH, WINDOW, small_copy
from raybt.errors import UserError
from tests.engine.families import SWITCH as TINY_SWITCH
from tests.engine.families import anatomy_of

NEWER = Version(transformers.__version__) >= Version("5.17")  # 5.13 lets texts be shared that 5.17 and later do not
LONGROPE = {
    "sliding_window": None,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1 + i / 3 for i in range(48)]},
}
DYNAMIC = {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
SETTINGS = {  # configs as they are published, in full width
    "qwen2": {"num_hidden_layers": 28, "hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 2},
    "gemma2": {},
    "gemma3": {},
    "gpt_neox": {},
    "gpt_oss": {},
    "qwen2_moe": {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 24},
    "phimoe": {"sliding_window": 2047},
    "llama4_text": {},
    "phi3": LONGROPE,
    "llama": DYNAMIC,
    "diffllama": {},
    "deepseek_v3": {},
    "olmo": {},
    "cohere2": {},
    "nemotron": {"num_key_value_heads": 8, "head_dim": 128},
    "stablelm": {},
}


def config_of(name: str, **more):
    return CONFIG_MAPPING[name](**{**SETTINGS.get(name, {}), **more})


def prove(name: str, dtype=torch.float32, **more):
    config = config_of(name, **more)
    return prove_architecture(config, dtype, "cpu", attention_for(config, "sdpa"))


@pytest.mark.parametrize("name", SETTINGS)
def test_published_configs_are_proved(name):
    proof = prove(name)
    assert proof.faults == {}
    copied = {"diffllama"} | ({"deepseek_v3"} if NEWER else set())
    assert proof.texts == ("copied" if name in copied else "shared")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_proved_beside_float32(dtype):
    assert prove("qwen2", dtype).faults == {}


def test_a_copy_has_every_kind_of_layer_and_every_switch_within_its_rows():
    text = small_copy(config_of("llama4_text"))
    assert text.layer_types == ["chunked_attention", "full_attention"] and text.attention_chunk_size == WINDOW
    assert reach(text) > SWITCH and reach(config_of("llama4_text")) == 8192 - 17
    rope = small_copy(config_of("phi3"))
    assert reach(rope) == SWITCH and reach(config_of("phi3")) == 4096
    assert reach(small_copy(config_of("llama"))) == SWITCH and reach(config_of("qwen2")) is None
    gemma = small_copy(config_of("gemma3"))
    assert gemma.layer_types == ["sliding_attention", "full_attention"] and gemma.sliding_window == WINDOW
    deep = small_copy(config_of("deepseek_v3"))
    assert (deep.num_hidden_layers, deep.first_k_dense_replace) == (2, 1)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("gemma3n_text", {}, "no copy of gemma3n_text could be made"),
        ("falcon", {}, "list of 2 blocks"),
        ("qwen3_next", {}, "list of 2 blocks"),
    ],
)
def test_what_cannot_be_proved_is_refused_in_one_line(name, more, said):
    with pytest.raises(UserError, match=said) as refused:
        prove(name, **more)
    assert "\n" not in str(refused.value)


def test_what_fails_is_named_with_its_measure_and_its_reason():
    proof = prove("lfm2", layer_types=["full_attention"] * 32)
    assert set(proof.faults) == {"lens"} and "final norm" in proof.faults["lens"]
    assert set(prove("minimax").faults) == {"decode", "scan", "lens"}
    refused = UserError(*unsupported("scan", "gpt_oss", "attention sinks (0.4 off)"))
    assert str(refused).startswith("scan: not supported for gpt_oss; got attention sinks (0.4 off). Fix: take the scan")


# ---- planted faults: each regime crossed the way it once went wrong ----


def blind(monkeypatch):
    """Kernels that see the whole of a row whatever the mask shows."""
    monkeypatch.setattr(Sight, "first", lambda self, mask: torch.zeros_like(self.positions))


def unchunked(monkeypatch):
    """Masks that know no chunks."""
    first = Masks.first
    monkeypatch.setattr(Masks, "first", lambda self, kind, at: first(self, kind.replace("chunked", "full"), at))


def no_sinks(monkeypatch):
    """A probe that reads plain attention, and no other way to read."""
    plain = shared.attend_shared
    shared.AttentionInterface.register(shared.NAME, lambda *args, s_aux=None, **more: plain(*args, **more))
    monkeypatch.setattr(architecture, "WAYS", ("shared",))
    monkeypatch.setattr(shared, "attend_shared", plain)


def later_switch(monkeypatch):
    """Rotary frequencies that switch within the longest row."""
    shrink = architecture.small_copy

    def shorter(config, narrow=True):
        small = shrink(config, narrow)
        for rope in (small.rope_parameters, small):
            name = "original_max_position_embeddings"
            rope.__setitem__(name, 20) if isinstance(rope, dict) else setattr(rope, name, 20)
        return small

    monkeypatch.setattr(architecture, "small_copy", shorter)
    monkeypatch.setattr("raybt.engine.decode.reach", lambda config: None)


def zero_attribution(monkeypatch):
    """OLMo's attribution as it was: its norm has no weight."""
    monkeypatch.setattr(lens.Head, "attribute", lambda self, parts, final, target: torch.zeros(len(parts) + 1))


@pytest.mark.parametrize(
    ("name", "plant", "faults", "reason"),
    [
        ("qwen2_moe", blind, {"decode"}, "sliding windows"),
        ("phimoe", blind, {"decode"}, "sliding windows"),
        ("llama4_text", unchunked, {"decode", "scan", "lens"}, "chunked attention"),
        ("gpt_oss", no_sinks, {"scan", "lens"}, "attention sinks"),
        ("phi3", later_switch, {"decode"}, "rotary frequencies that switch"),
        ("olmo", zero_attribution, {"lens"}, ""),
    ],
)
def test_a_planted_fault_is_found_and_its_regime_named(name, plant, faults, reason, monkeypatch):
    plant(monkeypatch)
    try:
        found = prove(name).faults
    finally:
        shared.AttentionInterface.register(shared.NAME, shared.attend_shared)
    assert faults <= set(found) and all(reason in why for why in found.values())


# ---- what the proof is for ----


def test_a_row_that_may_cross_a_switch_is_refused_and_shorter_ones_beside_it_stay_right():
    anatomy = anatomy_of("phi3_longrope")
    rows = [Request("short", (5, 6, 7), 8), Request("long", (5,) * 40, TINY_SWITCH - 40), Request("far", (5,) * 40, 25)]
    decoder = Decoder(anatomy, Sampling(greedy=True), 16, 128)
    done = {row.key: row for row in decoder.run(rows)}
    decoder.close()
    assert "need 65 positions; beyond 64 this model's rows disturb others" in done["far"].error
    alone = anatomy.model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=8, do_sample=False)[0, 3:].tolist()
    assert list(done["short"].token_ids) == alone and done["long"].error is None


def test_models_that_need_eager_attention_get_it(tmp_path):
    assert attention_for(config_of("gemma2"), "sdpa") == attention_for(config_of("gpt_oss"), "sdpa") == "eager"
    assert attention_for(config_of("gemma3"), "sdpa") == attention_for(config_of("qwen2"), "sdpa") == "sdpa"
    anatomy_of("gemma2").model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert loaded.model.config._attn_implementation == "eager" and loaded.notes == (
        "gemma2 needs eager attention, and gets it in the place of sdpa",
    )


def test_a_model_whose_weights_are_no_numbers_is_refused_with_their_names(tmp_path):
    model = anatomy_of("qwen2").model
    model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"finite numbers; got NaN or infinity in model\.layers\.1\.mlp\.up_proj"):
        load_model(str(tmp_path), device="cpu")


def test_a_fault_stops_a_load_or_a_probe(tmp_path):
    anatomy_of("qwen2").model.save_pretrained(tmp_path)
    proof = architecture_of(str(tmp_path), device="cpu")
    with pytest.raises(UserError, match="decode: not supported for qwen2; got windows"):
        load_model(str(tmp_path), device="cpu", proof=replace(proof, faults={"decode": "windows"}))
    loaded = load_model(str(tmp_path), device="cpu", proof=replace(proof, faults={"lens": "a scale"}))
    with pytest.raises(UserError, match="lens: not supported for qwen2; got a scale. Fix: take the lens stages out"):
        lens.lens(loaded, (5, 6, 7), (2,), (7,))
