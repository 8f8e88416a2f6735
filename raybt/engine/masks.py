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

    Attributes:
        asked, served: layers that came for their attention, and those that a Triton kernel served.
        own: whether no layer came with a mask of its own making.
    """

    def __init__(self, positions: Tensor, masks: Tensor | dict[str, Tensor], firsts: list[Tensor]):
        self.positions, self.masks = positions, masks
        self.asked, self.served, self.own = 0, 0, True
        given = list(masks.values()) if isinstance(masks, dict) else [masks]
        self._first = {id(mask): first for mask, first in zip(given, firsts, strict=True)}

    @property
    def superfluous(self) -> bool:
        """Whether the masks were: every layer was served by a kernel, which reads none."""
        return self.own and 0 < self.asked == self.served

    def first(self, mask: Tensor | None) -> Tensor:
        """[slots] the first position seen under the mask that a layer was given, which may be one of its own making."""
        if mask is None:
            return torch.zeros_like(self.positions)
        if id(mask) not in self._first:
            self.own = False
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
        firsts = [self.first(kind, positions) for kind in self.kinds]
        firsts = [torch.zeros_like(positions) if first is None else first for first in firsts]
        masks = [self._shaped((ahead <= positions[:, None]) & (ahead >= first[:, None])) for first in firsts]
        named = dict(zip(self.kinds, masks, strict=True))
        return Sight(positions, named if len(named) > 1 else masks[0], firsts)

    def first(self, kind: str, positions: Tensor) -> Tensor | None:
        """[slots] the first position that a layer of this kind sees; None for the row's first."""
        if "sliding" in kind and self.width:
            return (positions - (self.width - 1)).clamp(min=0)
        if "chunked" in kind and self.chunk:
            return positions - positions % self.chunk
        return None

    def _shaped(self, visible: Tensor) -> Tensor:
        visible = visible[:, None, None]
        if self.additive is None:
            return visible
        return torch.zeros_like(visible, dtype=self.additive).masked_fill(~visible, torch.finfo(self.additive).min)


class Unmasked:
    """What each slot sees where a kernel reads no masks: numbers in buffers that stay, so that a step can be captured.

    The model still hands each layer a mask, by which the kind of layer is known; they hold nothing.

    Args:
        positions: as in `Sight`; the buffer, which moves on by itself.

    Attributes:
        masks: as in `Sight`, but empty.
    """

    def __init__(self, kinds: Masks, positions: Tensor):
        self.kinds, self.positions, self.served = kinds, positions, 0
        empty = {kind: torch.ones(1, 1, 1, 1, dtype=torch.bool, device=positions.device) for kind in kinds.kinds}
        self.masks: Tensor | dict[str, Tensor] = empty if len(empty) > 1 else next(iter(empty.values()))
        firsts = {kind: kinds.first(kind, positions) for kind in empty}
        self._first = {id(mask): firsts[kind] for kind, mask in empty.items()}
        self._moving = [(kind, first) for kind, first in firsts.items() if first is not None]

    def move(self) -> None:
        """Follow the positions."""
        for kind, first in self._moving:
            moved = self.kinds.first(kind, self.positions)
            assert moved is not None
            first.copy_(moved)

    def first(self, mask: Tensor | None) -> Tensor | None:
        """[slots] the first position seen under a layer's mask; None for the row's first."""
        return None if mask is None else self._first[id(mask)]
