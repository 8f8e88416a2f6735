"""One tiny random model of each family that raybt supports, made on the spot."""

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.load import attention_for

SMALL = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
WIDE_HEADS = {"head_dim": 16}  # four heads of 16 in a stream of 48: heads side by side are wider than the stream
SLIDING = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

FAMILIES = {
    "qwen2": {},
    "qwen3": WIDE_HEADS,
    "llama": {},
    "mistral": {"sliding_window": 12},
    "gemma2": {**WIDE_HEADS, **SLIDING, "query_pre_attn_scalar": 16},
    "gemma3_text": {**WIDE_HEADS, **SLIDING, "query_pre_attn_scalar": 16},
    "phi3": {"sliding_window": None},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128, "n_inner": 64},
    "qwen3_moe": {**WIDE_HEADS, **EXPERTS, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "olmo2": {},
}

MLA = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 8}
SWITCH = 64  # tokens after which the longrope model's frequencies change

EXOTIC = {  # models whose attention, rotary embeddings or head do what plain ones do not
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 32, "use_sliding_window": True, "sliding_window": 12,
                  "max_window_layers": 3},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 12},
    "llama4_text": {**WIDE_HEADS, "attention_chunk_size": 12, "num_local_experts": 4, "intermediate_size_mlp": 64,
                    "no_rope_layers": [1, 1, 0], "interleave_moe_layer_step": 2},
    "gpt_oss": {**WIDE_HEADS, "sliding_window": 12, "num_local_experts": 4, "num_experts_per_tok": 2},
    "diffllama": {},
    "deepseek_v3": {**MLA, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
                    "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1},
    "olmo": {},
    "cohere": {"logit_scale": 0.25},
    "nemotron": {"head_dim": 12},
    "phi3_longrope": {
        "sliding_window": None, "max_position_embeddings": 4 * SWITCH, "original_max_position_embeddings": SWITCH,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]},
    },
}  # fmt: skip
COPIED = ("diffllama", "deepseek_v3")  # probes read their texts as decoding does


def family(name: str, seed: int = 0):
    """A random model of the family, float32, sdpa attention where the family has it."""
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[name.removesuffix("_longrope")](**{**SMALL, **{**FAMILIES, **EXOTIC}[name]})
    made = {"dtype": torch.float32, "attn_implementation": attention_for(config, "sdpa")}
    model = AutoModelForCausalLM.from_config(config, **made)
    for parameter in model.parameters():  # norms and biases that start at 1 and 0 would hide mistakes
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def anatomy_of(name: str, dtype: torch.dtype = torch.float32) -> Anatomy:
    """The family's model, dissected, its texts read as the proof of its architecture would have them."""
    return replace(dissect(family(name).to(dtype)), texts="copied" if name in COPIED else "shared")
