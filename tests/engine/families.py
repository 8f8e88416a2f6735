"""One tiny random model of each family that raybt supports, made on the spot."""

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

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


def family(name: str, seed: int = 0):
    """A random model of the family, float32, sdpa attention where the family has it."""
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[name](**{**SMALL, **FAMILIES[name]})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():  # norms and biases that start at 1 and 0 would hide mistakes
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)
