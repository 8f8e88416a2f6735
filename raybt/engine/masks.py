"""Which tokens each slot sees: the masks that the model reads, and the same as numbers for the kernels."""

from typing import Any

import torch
from torch import Tensor

EXACT = ("sdpa", "raybt")  # attention that reads boolean masks; all other reads additive ones


class Sight:
    """What each slot sees at one step.

    Args:
        positions: [slots] where each slot's new token stands, the last that it sees.
        masks: [slots, 1, 1, window] for all layers, or one for each kind of layer.
        firsts: the first position that each slot sees, [slots], in the order of the masks.
    """

    def __init__(self, positions: Tensor, masks: Tensor | dict[str, Tensor], firsts: list[Tensor]):
        self.positions, self.masks = positions, masks
        given = list(masks.values()) if isinstance(masks, dict) else [masks]
        self._first = {id(mask): first for mask, first in zip(given, firsts, strict=True)}

    def first(self, mask: Tensor | None) -> Tensor:
        """[slots] the first position seen under the mask that a layer was given, which may be one of its own making."""
        if mask is None:
            return torch.zeros_like(self.positions)
        if id(mask) not in self._first:
            shown = mask if mask.dtype == torch.bool else mask == 0
            self._first[id(mask)] = shown.flatten(1).to(torch.uint8).argmax(1)
        return self._first[id(mask)]


class Masks:
    """Each slot sees its own tokens, the new one included; in sliding layers the last, in chunked ones its chunk's.

    Reads the model's config once: each look at it costs as much as an operator.

    Args:
        exact: boolean masks, whatever the model's attention.
    """

    def __init__(self, model: Any, exact: bool = False):
        config = model.config.get_text_config()
        self.width: int | None = getattr(config, "sliding_window", None) or None
        self.chunk: int | None = getattr(config, "attention_chunk_size", None) or None
        kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or ()))
        self.kinds = kinds or ["sliding_attention" if self.width else "full_attention"]
        self.additive = None if exact or model.config._attn_implementation in EXACT else model.dtype

    def __call__(self, positions: Tensor, window: int) -> Sight:
        """What slots see whose new tokens stand at `positions` [slots], within the first `window` positions."""
        ahead = torch.arange(window, device=positions.device)
        firsts = [self._first(kind, positions) for kind in self.kinds]
        masks = [self._shaped((ahead <= positions[:, None]) & (ahead >= first[:, None])) for first in firsts]
        named = dict(zip(self.kinds, masks, strict=True))
        return Sight(positions, named if len(named) > 1 else masks[0], firsts)

    def _first(self, kind: str, positions: Tensor) -> Tensor:
        if "sliding" in kind and self.width:
            return (positions - (self.width - 1)).clamp(min=0)
        if "chunked" in kind and self.chunk:
            return positions - positions % self.chunk
        return torch.zeros_like(positions)

    def _shaped(self, visible: Tensor) -> Tensor:
        visible = visible[:, None, None]
        if self.additive is None:
            return visible
        return torch.zeros_like(visible, dtype=self.additive).masked_fill(~visible, torch.finfo(self.additive).min)
