"""Where a Hugging Face decoder keeps what its blocks add to the residual stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from raybt.errors import UserError

ATTENTION_NAMES = ("self_attn", "attn", "attention")
MLP_NAMES = ("mlp", "feed_forward", "block_sparse_moe")
PROJECTION_NAMES = ("o_proj", "out_proj", "c_proj", "dense")
NORMED = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo 2
    ("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM 4
)
"""Pairs of norms that a block with both applies to its components' outputs before it adds them. One of a pair alone is
no sign: Llama's post_attention_layernorm comes before the MLP. Loading proves the choice either way."""


@dataclass(frozen=True)
class Point:
    """A place where one hook sits.

    Args:
        name: `attn.3`, `mlp.3`, `resid.3` (after block 3) or `head.3`.
        side: a head's contribution is cut out of what enters the attention's output projection; all others are outputs.
        heads: sites side by side in the last dimension.
    """

    name: str
    module: nn.Module
    side: Literal["output", "input"] = "output"
    heads: int = 1

    @property
    def sites(self) -> tuple[str, ...]:
        if self.side == "output":
            return (self.name,)
        return tuple(f"{self.name}.{head}" for head in range(self.heads))


@dataclass(frozen=True)
class Anatomy:
    """A causal language model and the places where interventions act on it.

    Args:
        points: attention, then MLP, then residual stream, then heads; each in layer order.
        texts: how probes read a text: `shared`, its keys and values once for all rows; or `copied`, as in decoding, for
            models whose attention is not the plain one.
        faults: `decode`, `scan` or `lens` -> why raybt does not do it with this architecture.
        notes: what a run should say of how the model was loaded.
        fusion: how decoders compute its step unless told otherwise; see `fusion.FUSIONS`.
    """

    model: Any  # a PreTrainedModel, whose attributes type checkers take for tensors
    n_layers: int
    points: tuple[Point, ...]
    texts: str = "shared"
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fusion: str = "none"

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site's name."""
        return tuple(site for point in self.points for site in point.sites)

    def demand(self, measure: str) -> None:
        """Go on only if the proof of the architecture held for `decode`, `scan` or `lens`.

        Raises:
            UserError: it did not.
        """
        if measure in self.faults:
            raise UserError(*unsupported(measure, self.model.config.model_type, self.faults[measure]))

    def point(self, name: str) -> Point:
        """The point of this name, `attn.3` or `head.3`."""
        return next(point for point in self.points if point.name == name)

    @property
    def device(self) -> torch.device:
        """Where inputs go and logits come from; parameters that lie on disk have no device of their own."""
        return next(p.device for p in self.model.parameters() if p.device.type != "meta")

    @property
    def head_width(self) -> int:
        """Width of one head's part of what enters the output projection."""
        point = self.point("head.0")
        return _width_in(point.module) // point.heads

    @property
    def vocabulary(self) -> int:
        """Width of the logits, which may exceed the tokenizer's vocabulary."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion, as the model's generation config has it."""
        for config in (getattr(self.model, "generation_config", None), self.model.config):
            ids = getattr(config, "eos_token_id", None)
            if ids is not None:
                return tuple(ids) if isinstance(ids, (list, tuple)) else (ids,)
        return ()


def unsupported(measure: str, kind: str, why: str) -> tuple[str, str, str]:
    """(rule, value, fix) of a measure that raybt does not do with an architecture."""
    fix = "use a supported architecture" if measure == "decode" else f"take the {measure} stages out of the config"
    return f"{measure}: not supported for {kind}", why, f"{fix}, or report this one"


def dissect(model: Any) -> Anatomy:
    """Find blocks and components by structure.

    Raises:
        UserError: no list of blocks holds both an attention and an MLP module, or an output projection is missing.
    """
    blocks, heads = find_blocks(model), model.config.get_text_config().num_attention_heads
    added = [_added(block) for block in blocks]
    points = [Point(f"attn.{layer}", attention) for layer, (attention, _) in enumerate(added)]
    points += [Point(f"mlp.{layer}", mlp) for layer, (_, mlp) in enumerate(added)]
    points += [Point(f"resid.{layer}", block) for layer, block in enumerate(blocks)]
    points += [Point(f"head.{layer}", _projection(block), "input", heads) for layer, block in enumerate(blocks)]
    return Anatomy(model, len(blocks), tuple(points))


def find_blocks(model: Any) -> nn.ModuleList:
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and all(map(_is_block, module)):
            return module
    raise UserError(
        f"the model must hold a list of {depth} blocks, each with an attention module named one of "
        f"{', '.join(ATTENTION_NAMES)} and an MLP named one of {', '.join(MLP_NAMES)}",
        type(model).__name__,
        "use a supported architecture (Qwen, Llama, Mistral, Gemma, Phi-3, OLMo 2, GPT-NeoX, GPT-2 and their kin)",
    )


def _is_block(module: nn.Module) -> bool:
    return all(any(hasattr(module, name) for name in names) for names in (ATTENTION_NAMES, MLP_NAMES))


def _added(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules whose outputs the block adds to the residual stream: attention's and the MLP's."""
    for pair in NORMED:
        if all(hasattr(block, name) for name in pair):
            return getattr(block, pair[0]), getattr(block, pair[1])
    return _child(block, ATTENTION_NAMES), _child(block, MLP_NAMES)


def _projection(block: nn.Module) -> nn.Module:
    attention = _child(block, ATTENTION_NAMES)
    if not any(hasattr(attention, name) for name in PROJECTION_NAMES):
        raise UserError(
            f"an attention module must hold its output projection as one of {', '.join(PROJECTION_NAMES)}",
            f"{type(attention).__name__} with {', '.join(name for name, _ in attention.named_children())}",
            "use a supported architecture",
        )
    return _child(attention, PROJECTION_NAMES)


def _width_in(projection: Any) -> int:
    """Width of what a projection reads; GPT-2's Conv1D holds its weight the other way round, and has no such field."""
    return int(getattr(projection, "in_features", None) or projection.weight.shape[0])


def _child(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    return next(getattr(block, name) for name in names if hasattr(block, name))


def split(anatomy: Anatomy) -> bool:
    """Whether the model's parts lie on several devices, in memory or on disk (accelerate's device map)."""
    return len(set(getattr(anatomy.model, "hf_device_map", {}).values())) > 1
