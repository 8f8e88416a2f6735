"""fp32 matrix products on the CPU with weights laid out for oneDNN.

torch hands a linear layer's fp32 product to MKL, which lays the weights out anew at every call and, on CPUs of another
maker than its own, uses vectors of half the width. oneDNN with weights laid out once is over twice as fast there, and
gives a row the same bits whatever the number of rows. The price is a second copy of the weights.

Where oneDNN has no kernel for laid-out weights (torch 2.11's on a CPU with AVX2; 2.13's has one) it leaves them as they
are and computes the last rows of a product by other code than those before. So a model's weights are packed only if a
trial at each of its shapes shows that a row's bits do not depend on the number of rows.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

LARGEST = 4 * 2**30
"""Bytes of packed copies of one model at most. A fixed number and not the free memory: it decides the last bits."""
FEW = 16
"""With fewer rows the stock way is faster."""
TRIED = (160, 64, 16, 17, 19, 21, 22, 23)
"""Numbers of rows of a trial: whole tiles of 6 or 8 rows, and what remains of one."""
WORK = 2**28
"""Multiplications of one product of a trial at most, some milliseconds. Not fewer: with less than all outputs oneDNN
may compute otherwise (torch 2.11: 896 by 585 is independent of the number of rows, 896 by 1024 is not)."""
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that read one tensor and so are one product, on small models faster than two or three."""
HAVE_PACKED = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
)
MULTIPLY: Any = torch.ops.mkldnn._linear_pointwise.default if HAVE_PACKED else None


class Packed:
    """Linear layers side by side, computed as one. Assumes inference.

    Attributes:
        seen: (a layer's parameters by name, name, parameter, its version) when they were packed.
        due: outputs that were computed for `read` and not yet asked for.
    """

    def __init__(self, linears: list[nn.Linear]):
        self.linears, self.widths = linears, [linear.out_features for linear in linears]
        self.parameters: list[tuple[Any, ...]] = [tuple(linear._parameters.values()) for linear in linears]
        own = [(linear._parameters, name) for linear in linears for name in ("weight", "bias")]
        self.seen = [(where, name, p, p._version) for where, name in own if (p := where[name]) is not None]
        weights = torch.cat([linear.weight.detach() for linear in linears])
        self.layout = torch.ops.mkldnn._reorder_linear_weight(weights, FEW)
        self.bias = None if linears[0].bias is None else torch.cat([linear.bias.detach() for linear in linears])
        forwards = [self.alone] if len(linears) == 1 else [partial(self.together, i) for i in range(len(linears))]
        self.swaps = [(linear.__dict__, forward) for linear, forward in zip(linears, forwards, strict=True)]
        self.read: Tensor | None = None
        self.due: dict[int, Tensor] = {}

    def stale(self) -> bool:
        """Whether somebody has changed a parameter or written into it."""
        return any(where[name] is not p or p._version != version for where, name, p, version in self.seen)

    def alone(self, x: Tensor) -> Tensor:
        """Output of the only layer. x: [..., in]; gives [..., out]."""
        if x.numel() < FEW * x.shape[-1]:
            return torch.nn.functional.linear(x, *self.parameters[0])
        return MULTIPLY(x, self.layout, self.bias, "none", [], "")

    def together(self, index: int, x: Tensor) -> Tensor:
        """Output of one of the layers; the first that is asked for computes all. x: [..., in]; gives [..., out]."""
        if x.numel() < FEW * x.shape[-1]:
            return torch.nn.functional.linear(x, *self.parameters[index])
        if x is not self.read or index not in self.due:
            out = MULTIPLY(x, self.layout, self.bias, "none", [], "")
            self.read, self.due = x, dict(enumerate(out.split_with_sizes(self.widths, -1)))
        return self.due.pop(index)

    def forget(self) -> None:
        """Let go of what was read last: the next pass may write into the same memory."""
        self.read, self.due = None, {}


_OF: WeakKeyDictionary[nn.Module, list[Packed]] = WeakKeyDictionary()


@contextmanager
def packed(packs: list[Packed]) -> Iterator[None]:
    """Within this block the layers of these packs multiply by packed weights; hooks on them act as ever."""
    for pack in packs:
        for attributes, forward in pack.swaps:
            attributes["forward"] = forward
    try:
        yield
    finally:
        for pack in packs:
            pack.forget()
            for attributes, _ in pack.swaps:
                attributes.pop("forward", None)


def packs_of(model: Any) -> list[Packed]:
    """The model's packed layers, packed at the first call and again where a weight has changed since."""
    packs = _OF.get(model)
    if packs is None or any(pack.stale() for pack in packs):
        packs = _OF[model] = [Packed(linears) for linears in packable(model)]
    return packs


def packable(model: Any) -> list[list[nn.Linear]]:
    """Plain fp32 linear layers on the CPU, those that belong together side by side.

    All or none: none if they are too large, or if the rows of one of them are not `independent`. Layers that something
    else wraps already stay as they are.
    """
    if not HAVE_PACKED:
        return []
    found = [module for module in model.modules() if type(module) is nn.Linear and _plain(module)]
    if sum(linear.weight.nbytes for linear in found) > LARGEST:
        return []
    groups = [group for parent in model.modules() for group in _siblings(parent) if set(group) <= set(found)]
    grouped = {linear for group in groups for linear in group}
    groups += [[linear] for linear in found if linear not in grouped]
    shapes = {(group[0].in_features, sum(linear.out_features for linear in group)) for group in groups}
    return groups if all(independent(*shape, torch.get_num_threads()) for shape in sorted(shapes)) else []


@cache
@torch.inference_mode()
def independent(width: int, outputs: int, threads: int) -> bool:
    """Whether a row of a packed product of this shape has the same bits whatever the number of rows, by a trial.

    A layer too large for `WORK` is tried with fewer rows, then with fewer outputs: their columns are blocks alike.
    """
    outputs = max(1, min(outputs, WORK // (width * TRIED[1])))
    most, *fewer = TRIED if TRIED[0] * width * outputs <= WORK else TRIED[1:]
    numbers = torch.Generator().manual_seed(0)
    weights, x = (torch.randn(rows, width, generator=numbers) for rows in (outputs, most))
    layout = torch.ops.mkldnn._reorder_linear_weight(weights, FEW)
    whole = MULTIPLY(x, layout, None, "none", [], "")
    return all(torch.equal(MULTIPLY(x[:rows], layout, None, "none", [], ""), whole[:rows]) for rows in fewer)


def _siblings(parent: nn.Module) -> Iterator[list[nn.Linear]]:
    for names in TOGETHER:
        group: list[Any] = [getattr(parent, name, None) for name in names]
        if all(type(one) is nn.Linear for one in group) and len({one.bias is None for one in group}) == 1:
            yield group


def _plain(linear: nn.Linear) -> bool:
    weight = linear._parameters.get("weight")
    if weight is None or "forward" in linear.__dict__:  # parametrised, or under accelerate's hooks
        return False
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and not weight.is_inference()
