"""Fewer kernels a step: a block's small operators in kernels of their own, or the whole pass compiled by torch.

On a GPU a step of a small model is hundreds of kernels, most of which do next to nothing. Three ways to compute it:

- `none`: the stock modules.
- `kernels`: one product for what reads one tensor (q, k and v; gate and up), and one kernel each for a norm with the
  sum before it, for SiLU with its product, and for the rotary embedding with the write of keys and values.
- `compiled`: `torch.compile` of the whole pass, hooks inside; products merged likewise.

Only what gives a stock module's numbers is exchanged, and the whole step is held against the stock one when a model is
loaded (`wiring.with_fusion`). Hooks stay where they are: modules are called as ever, and compute with other means.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from raybt.engine.anatomy import NORMED, find_blocks
from raybt.engine.packed import TOGETHER
from raybt.engine.rotary import ROTARY, usual

FUSIONS = ("none", "kernels", "compiled")
BLOCK = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
"""The parts of a block that adds attention to the stream, then the MLP of its norm (Llama, Qwen, Mistral and kin)."""

Swap = tuple[Any, str, Any]  # a namespace, a name in it, and what stands there within a fused step


class Merged:
    """Linear layers that read one tensor, as one product; their own weights become views of the merged one.

    Args:
        linears: alike but for their number of outputs.
    """

    def __init__(self, linears: Sequence[nn.Linear]):
        self.widths = [linear.out_features for linear in linears]
        self.weight = _merged(linears, "weight")
        self.bias = None if linears[0].bias is None else _merged(linears, "bias")
        self.read: Tensor | None = None
        self.due: dict[int, Tensor] = {}

    def all(self, x: Tensor) -> Tensor:
        """Every layer's outputs side by side, [..., all widths]."""
        return nn.functional.linear(x, self.weight, self.bias)

    def one(self, index: int, x: Tensor) -> Tensor:
        """One layer's output; the first that is asked for computes all."""
        if x is not self.read or index not in self.due:
            self.read, self.due = x, dict(enumerate(self.all(x).split(self.widths, -1)))
        out = self.due.pop(index)
        if not self.due:
            self.read = None
        return out


def _merged(linears: Sequence[nn.Linear], name: str) -> Tensor:
    own = [getattr(linear, name) for linear in linears]
    merged = torch.cat([parameter.data for parameter in own])
    for parameter, part in zip(own, merged.split([len(parameter) for parameter in own]), strict=True):
        parameter.data = part
    return merged


_OF: WeakKeyDictionary[nn.Module, dict[str, list[Swap]]] = WeakKeyDictionary()


def swaps_of(model: Any, fusion: str) -> list[Swap]:
    """What is exchanged within a fused step; found once a model."""
    made = _OF.setdefault(model, {})
    if fusion not in made:
        with torch.inference_mode(False), torch.no_grad():  # merged weights outlive this step
            made[fusion] = [] if fusion == "none" else list(_swaps(model, kernels=fusion == "kernels"))
    return made[fusion]


_COMPILED: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def compiled(model: Any) -> Any:
    """The model's pass compiled once; what differs from step to step lies in buffers."""
    if model not in _COMPILED:
        _COMPILED[model] = torch.compile(model.forward, fullgraph=True, dynamic=False)
    return _COMPILED[model]


@contextmanager
def fused(swaps: list[Swap]) -> Iterator[None]:
    """Within this block modules compute by what is exchanged; hooks on them act as ever."""
    stock = [(where, name, where[name]) for where, name, _ in swaps if name in where]
    for where, name, made in swaps:
        where[name] = made
    try:
        yield
    finally:
        ROTARY.clear()
        for where, name, _ in swaps:
            where.pop(name, None)
        for where, name, found in stock:
            where[name] = found


def _swaps(model: Any, kernels: bool) -> Iterator[Swap]:
    merged = {id(linears[0]): Merged(linears) for linears in _together(model)}
    for linears in _together(model):
        for index, linear in enumerate(linears):
            yield linear.__dict__, "forward", partial(merged[id(linears[0])].one, index)
    if not kernels:
        return
    for module in model.modules():
        if _is_norm(module):
            yield module.__dict__, "forward", partial(_norm, module)
        gate = getattr(module, "gate_proj", None)
        if id(gate) in merged and _is_silu(getattr(module, "act_fn", None)):
            yield module.__dict__, "forward", partial(_gated, merged[id(gate)], module.down_proj)
    blocks = find_blocks(model)
    for block in blocks:
        if _is_plain(block):
            yield block.__dict__, "forward", partial(_block, block)
    source = vars(sys.modules[type(getattr(blocks[0], "self_attn", blocks[0])).__module__])
    stock = source.get("apply_rotary_pos_emb")
    if model.config._attn_implementation == "sdpa" and _is_usual(stock):
        yield source, "apply_rotary_pos_emb", partial(ROTARY.defer, stock)


def _together(model: Any) -> Iterator[list[nn.Linear]]:
    """Plain linear layers side by side that read one tensor, alike in type and bias."""
    for parent in model.modules():
        for names in TOGETHER:
            group: list[Any] = [getattr(parent, name, None) for name in names]
            plain = all(type(one) is nn.Linear and "forward" not in one.__dict__ for one in group)
            if plain and len({(one.bias is None, one.weight.dtype, one.weight.device) for one in group}) == 1:
                yield group


def _is_norm(module: nn.Module) -> bool:
    """Whether a module is an RMSNorm (Zhang and Sennrich 2019) as the kernel computes it, tried on numbers."""
    weight = module._parameters.get("weight")
    if "RMSNorm" not in type(module).__name__ or weight is None or weight.ndim != 1 or not _eps(module):
        return False
    x = torch.linspace(-2, 2, len(weight), device=weight.device, dtype=weight.dtype)[None]
    y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + _eps(module))
    return torch.equal(module(x), weight * y.to(x.dtype))


def _eps(module: Any) -> float:
    """0 for a module that has none."""
    return getattr(module, "variance_epsilon", None) or getattr(module, "eps", None) or 0.0


def _is_silu(function: Any) -> bool:
    x = torch.linspace(-4, 4, 64)
    return function is not None and torch.equal(function(x), nn.functional.silu(x))


def _is_plain(block: nn.Module) -> bool:
    held = [name for name, _ in block.named_children()]
    return (
        sorted(held) == sorted(BLOCK)
        and not any(all(name in held for name in pair) for pair in NORMED)
        and _is_norm(block.get_submodule("post_attention_layernorm"))
    )


def _is_usual(function: Any) -> bool:
    """Whether a model's rotary embedding is the usual one, tried on numbers."""
    if function is None:
        return False
    numbers = torch.linspace(-1, 2, 64).reshape(4, 2, 2, 1, 4)  # four tensors of two rows, two heads, one token
    q, k, cos, sin = numbers[0], numbers[1], numbers[2][:, 0], numbers[3][:, 0]
    try:
        found = function(q, k, cos, sin)
    except (TypeError, RuntimeError, IndexError):
        return False
    return all(torch.equal(a, b) for a, b in zip(found, usual(q, k, cos, sin), strict=True))


def _norm(module: Any, x: Tensor) -> Tensor:
    from raybt.engine.kernels.norm import add_norm

    return add_norm(x, None, module.weight, _eps(module))[0]


def _gated(merged: Merged, down: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    from raybt.engine.kernels.gated import silu_product

    return down(silu_product(merged.all(x)))


def _block(block: Any, hidden_states: Tensor, **kwargs: Any) -> Tensor:
    """A plain block, with attention's sum in the kernel of the norm that follows it."""
    from raybt.engine.kernels.norm import add_norm

    attended, _ = block.self_attn(hidden_states=block.input_layernorm(hidden_states), **kwargs)
    norm = block.post_attention_layernorm
    normed, total = add_norm(attended, hidden_states, norm.weight, _eps(norm))
    return total + block.mlp(normed)
