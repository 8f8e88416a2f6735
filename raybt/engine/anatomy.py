"""Where a Hugging Face decoder keeps its blocks, its attention and its MLPs."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from raybt.errors import UserError

ATTENTION_NAMES = ("self_attn", "attn", "attention")
MLP_NAMES = ("mlp", "feed_forward", "block_sparse_moe")


@dataclass(frozen=True)
class Anatomy:
    """A causal language model and the modules whose outputs join its residual stream.

    Args:
        sites: site name (`attn.3`, `mlp.3`) -> module, in layer order, attention first.
    """

    model: Any  # a PreTrainedModel, whose attributes type checkers take for tensors
    n_layers: int
    sites: dict[str, nn.Module]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion, as the model's generation config has it."""
        for config in (getattr(self.model, "generation_config", None), self.model.config):
            ids = getattr(config, "eos_token_id", None)
            if ids is not None:
                return tuple(ids) if isinstance(ids, (list, tuple)) else (ids,)
        return ()


def dissect(model: Any) -> Anatomy:
    """Find the blocks by structure.

    Raises:
        UserError: no list of blocks holds both an attention and an MLP module.
    """
    blocks = _blocks(model)
    sites: dict[str, nn.Module] = {}
    for layer, block in enumerate(blocks):
        sites[f"attn.{layer}"] = _child(block, ATTENTION_NAMES)
        sites[f"mlp.{layer}"] = _child(block, MLP_NAMES)
    return Anatomy(model, len(blocks), sites)


def _blocks(model: Any) -> nn.ModuleList:
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and _is_block(module[0]):
            return module
    raise UserError(
        f"the model must hold a list of {depth} blocks, each with an attention module named one of "
        f"{', '.join(ATTENTION_NAMES)} and an MLP named one of {', '.join(MLP_NAMES)}",
        type(model).__name__,
        "use a supported architecture (Qwen2, Llama and their kin)",
    )


def _is_block(module: nn.Module) -> bool:
    return all(any(hasattr(module, name) for name in names) for names in (ATTENTION_NAMES, MLP_NAMES))


def _child(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    return next(getattr(block, name) for name in names if hasattr(block, name))
