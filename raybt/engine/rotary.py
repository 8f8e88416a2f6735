"""The rotary embedding of queries and keys, and the write of keys and values, in one kernel.

In a stock attention layer the embedding comes first, then the cache is told of keys and values, then attention is
called. So in a fused step the embedding is put off (`Rotary.defer`), made up for where the cache is told, and attention
picks up the turned queries. Each handover is checked by identity: a layer that does something of its own in between
stops here, and its model is then computed in the stock way.
"""

from typing import Any

import torch
from torch import Tensor


class Rotary:
    """What has been put off between a layer's rotary embedding and its attention."""

    def __init__(self):
        self.waiting: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.turned: tuple[Tensor, Tensor] | None = None

    def clear(self) -> None:
        """Forget what a step that broke has left."""
        self.waiting = self.turned = None

    def defer(
        self, stock: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """In the place of transformers' `apply_rotary_pos_emb`, which is `stock`; q and k are [slots, heads, 1, dim].

        What turns a part of each head only is left to it.
        """
        if cos.shape[-1] != q.shape[-1] or not q.dtype == k.dtype == cos.dtype:
            return stock(q, k, cos, sin, *args, **kwargs)
        self.waiting = q, k, cos, sin
        return q, k

    def write(self, key: Tensor, value: Tensor, all_keys: Tensor, all_values: Tensor, places: Tensor) -> None:
        """Write one token a slot ([slots, kv heads, 1, dim]) to its place, and turn what waits to be turned."""
        from raybt.engine.kernels import rotate

        if self.waiting is None:
            rotate.write(key, value, all_keys, all_values, places)
            return
        query, waiting, cos, sin = self.waiting
        _same(key, waiting, "keys")
        self.turned = query, rotate.rotate_and_write(query, key, value, cos, sin, all_keys, all_values, places)
        self.waiting = None

    def query(self, given: Tensor) -> Tensor:
        """The queries that attention is to use in the place of those it was given."""
        if self.waiting is not None:
            raise RuntimeError("a layer does not tell the cache of its keys")
        if self.turned is None:
            return given
        query, turned = self.turned
        _same(given, query, "queries")
        self.turned = None
        return turned


def _same(given: Tensor, expected: Tensor, what: str) -> None:
    if given is not expected:
        raise RuntimeError(f"a layer changes its {what} after their rotary embedding")


ROTARY = Rotary()  # transformers hands none of the three anything but tensors


def usual(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """The rotary embedding that the kernel knows (Su et al. 2021, halves turned as in GPT-NeoX): x cos + turned(x) sin.

    Args:
        q, k: [rows, heads, tokens, dim].
        cos, sin: [rows, tokens, dim].
    """
    cos, sin = cos[:, None], sin[:, None]
    return q * cos + _turned(q) * sin, k * cos + _turned(k) * sin


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
