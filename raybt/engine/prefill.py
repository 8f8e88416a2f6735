"""Prompts, prefilled once for all their rows."""

import warnings
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from raybt.engine.anatomy import Anatomy
from raybt.engine.hooks import Hooks
from raybt.engine.noise import integers
from raybt.engine.packed import packed, packs_of
from raybt.engine.request import Request
from raybt.engine.transfer import sent

warnings.filterwarnings(
    "ignore", "`past_key_values` is deprecated", FutureWarning
)  # 5.24 renames it; 5.0 to 5.23 need it

KEPT = 64  # prompts whose keys and values are held for rows to come
STRETCH, MOST, TOKENS = 64, 8, 4096
"""A pass over several prompts is padded to a multiple of STRETCH tokens, has MOST rows, fewer of long prompts: at most
TOKENS in all, but one row at least. So its shape is a function of a prompt's own length, and its numbers, too."""
AHEAD = 256
"""Rows of the queue that are searched for prompts to take along."""


@dataclass(frozen=True)
class Prefix:
    """A prefilled prompt.

    Args:
        store: [layers, 2, tokens, kv heads, dim] of all prompt tokens but the last, or a tensor for each layer where
            these differ; None for a prompt of one token.
        touched: [sites] positions at which each hook changed its output; None where none did.
    """

    store: Tensor | list[Tensor] | None
    touched: Tensor | None = None


class Prefixes:
    """Keys and values of prompts, computed once and shared by every row that starts from the prompt.

    The last prompt token is left out: it is each row's first step. Rows whose intervention is on in the prompt share
    theirs with the rows of the same prompt and intervention only.

    Args:
        together: prefill several prompts in one pass, on a GPU where one alone keeps it idle; see `shape_of`. Else each
            is prefilled alone. Either way a prompt's numbers do not depend on which prompts came with it.
        reach: the most tokens that a pass may be padded to; see `features.reach`.
    """

    def __init__(self, anatomy: Anatomy, hooks: Hooks, together: bool = False, reach: int | None = None):
        self.anatomy, self.hooks, self.together, self.reach = anatomy, hooks, together, reach
        self._prefixes: OrderedDict[tuple, Prefix] = OrderedDict()

    def get(self, request: Request, ahead: Iterable[Request] = ()) -> Prefix:
        """The prefix of a row. ahead: rows to come, whose prompts may be prefilled along with it."""
        name = self._name(request)
        if name not in self._prefixes:
            alone = not self.together or not self._joins(request)
            found = {name: self._compute(request)} if alone else self._compute_several(request, ahead)
            for one in reversed(found):  # the prompt asked for last, so that it is the last to be forgotten
                self._prefixes[one] = found[one]
            while len(self._prefixes) > KEPT:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(name)
        return self._prefixes[name]

    def _joins(self, request: Request) -> bool:
        """Whether a row's prompt may be prefilled with others: no hook acts in it, and padding changes no regime."""
        tokens = len(request.prompt) - 1
        short = self.reach is None or shape_of(tokens)[1] <= self.reach
        return tokens > 0 and short and not request.touches_prompt

    def clear(self) -> None:
        """Forget all, as when the vectors that terms name have changed."""
        self._prefixes.clear()

    def _name(self, request: Request) -> tuple:
        if not request.touches_prompt:
            return (request.prompt,)
        drawn = any(term.operation == "resample" for term in request.active)
        return (request.prompt, request.active, request.stream if drawn else None)

    def _compute(self, request: Request) -> Prefix:
        tokens = request.prompt[:-1]
        if not tokens:
            return Prefix(None)
        if not request.touches_prompt:
            return Prefix(joined(prefilled(self.anatomy, tokens)))
        draws = sent(self.anatomy.device, torch.from_numpy(integers(request.stream, len(tokens))))[0]
        with self.hooks.over_prompt(request.active, len(tokens), draws) as live:
            store = joined(prefilled(self.anatomy, tokens, whole=True))
        return Prefix(store, live.touched.sum(1, dtype=torch.int32))

    def _compute_several(self, request: Request, ahead: Iterable[Request]) -> dict[tuple, Prefix]:
        """The prefix of a row's prompt, and of as many prompts to come as its pass has room for."""
        rows, length = shape_of(len(request.prompt) - 1)
        texts = {self._name(request): request.prompt[:-1]}
        for other in islice(ahead, AHEAD):
            fits = self._joins(other) and shape_of(len(other.prompt) - 1) == (rows, length)
            if len(texts) < rows and fits and self._name(other) not in self._prefixes:
                texts[self._name(other)] = other.prompt[:-1]
        stores = prefilled_together(self.anatomy, list(texts.values()), rows, length)
        return {name: Prefix(joined(store)) for name, store in zip(texts, stores, strict=True)}


def shape_of(tokens: int) -> tuple[int, int]:
    """(rows, tokens a row) of the pass in which a prompt of so many tokens is prefilled with others."""
    length = -(-tokens // STRETCH) * STRETCH
    return max(1, min(MOST, TOKENS // length)), length


def joined(layers: list[Tensor]) -> Tensor | list[Tensor]:
    """All layers as one tensor, where they are alike and on one device: a row's start is then one copy."""
    alike = len({(layer.device, layer.shape) for layer in layers}) == 1
    return torch.stack(layers) if alike else layers


class _Enough(Exception):
    """Every layer has its keys and values; what the pass would still compute, nobody reads."""


class _PrefillCache(DynamicCache):
    """Ends the pass once the last of `layers` layers has stored its keys and values; 0 lets it run to its end."""

    def __init__(self, layers: int):
        super().__init__()  # without a config: with one, sliding layers would forget
        self.last = layers - 1

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs):
        found = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self.last:
            raise _Enough
        return found


def prefilled(anatomy: Anatomy, tokens: tuple[int, ...], whole: bool = False) -> list[Tensor]:
    """Keys and values of `tokens`, for each layer [2, tokens, kv heads, dim] on the layer's device.

    Args:
        whole: run the pass to its end, so that the last layer's hooks act too.
    """
    return [stacked(*pair) for pair in pairs_of(anatomy, tokens, whole)]


def prefilled_together(anatomy: Anatomy, texts: list[tuple[int, ...]], rows: int, length: int) -> list[list[Tensor]]:
    """What `prefilled` gives for each text, from one pass of a fixed shape.

    Texts stand at the left of their rows, so that no token sees what fills the row up.
    """
    ids = torch.zeros(rows, length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=False):
        row[: len(text)] = torch.tensor(text)
    layers = _read(anatomy, ids, whole=False)
    return [
        [stacked(keys[row, :, : len(text)], values[row, :, : len(text)]) for keys, values in layers]
        for row, text in enumerate(texts)
    ]


def pairs_of(anatomy: Anatomy, tokens: tuple[int, ...], whole: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Keys and values as the model has them, for each layer that stores any [kv heads, tokens, dim]."""
    return [(keys[0], values[0]) for keys, values in _read(anatomy, torch.tensor([tokens]), whole)]


@torch.inference_mode()
def _read(anatomy: Anatomy, ids: Tensor, whole: bool) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of texts [rows, tokens], for each layer that stores any [rows, kv heads, tokens, dim]."""
    cache: Any = _PrefillCache(0 if whole else anatomy.n_layers)
    ids = sent(anatomy.device, ids)[0]
    positions = torch.arange(ids.shape[1], device=anatomy.device)[None]
    with packed(packs_of(anatomy.model)), suppress(_Enough):
        anatomy.model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def stacked(keys: Tensor, values: Tensor) -> Tensor:
    """[2, tokens, kv heads, dim], the narrower of the two filled up with zeros."""
    wide = max(keys.shape[-1], values.shape[-1])
    parts = [part if part.shape[-1] == wide else pad(part, (0, wide - part.shape[-1])) for part in (keys, values)]
    return torch.stack(parts).transpose(1, 2).contiguous()
