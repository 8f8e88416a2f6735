"""Proof at load that every hook does what its site's name says: a null result from a dead hook means nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, Point, find_blocks, split
from raybt.engine.cache import GRAIN
from raybt.engine.decode import Decoder
from raybt.engine.fusion import swaps_of
from raybt.engine.kernels import by_triton
from raybt.engine.memory import is_out_of_memory
from raybt.engine.request import Request, Sampling, Term
from raybt.errors import UserError, first_line

PROMPT = (1, 2, 3)
CHUNK = 64
"""Rows of one proving step, whatever the model's number of sites."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Of a sum of three terms, relative to the largest: rounding, with room to spare."""
SMALLEST = 1e-7
"""Change of the logits, relative to the largest, that counts as one: a mixture of experts rounds by its neighbours."""

Seen = dict[str, list[Tensor]]


def with_fusion(anatomy: Anatomy, fusion: str = "kernels") -> Anatomy:
    """The anatomy with its decoders' steps fused, where a fused step gives the stock step's logits.

    Else as it was, with a note that says why. Where Triton's kernels do not run nothing is fused, and nothing is said.
    """
    if not by_triton(anatomy.device) or split(anatomy) or not swaps_of(anatomy.model, fusion):
        return anatomy
    rows = [Request(str(row), PROMPT[row % len(PROMPT) :] + (3 + row,), 1) for row in range(GRAIN)]
    stock, _ = _step(replace(anatomy, fusion="none"), rows)
    try:
        ours, _ = _step(replace(anatomy, fusion=fusion), rows)
        off = float((ours.float() - stock.float()).abs().max() / stock.float().abs().max())
        problem = "" if off <= TOLERANCE[anatomy.model.dtype] else f"its logits are {off:.1e} off the stock step's"
    except Exception as error:  # a compiler's, a kernel's or a layer's own: the stock step does without all of them
        if is_out_of_memory(error):
            raise
        problem = first_line(error, 200)
    if not problem:
        return replace(anatomy, fusion=fusion)
    note = f"steps are computed by stock modules, more slowly, since a fused step does not work out: {problem}"
    return replace(anatomy, fusion="none", notes=(*anatomy.notes, note))


def prove_wiring(anatomy: Anatomy) -> None:
    """Every site, zeroed, must take from the residual stream exactly what its component adds, and change the logits.

    In one step each row has one site zeroed. For every block and row, what leaves must equal what enters plus what
    attention and MLP add, the zeroed ones counted as nothing; a zeroed residual stream must leave as zero; a zeroed
    head must take its own slice of weights out of the projection. Without a term, hooks change no bit.

    Raises:
        UserError: a hook does nothing, or other than it should.
    """
    untouched = [Request("untouched", PROMPT, 1)]
    if not torch.equal(_step(anatomy, untouched)[0], _step(anatomy, untouched, hooked=False)[0]):
        raise UserError("hooks that change nothing must leave the logits as they are", "others", "report this model")
    for start in range(0, len(anatomy.sites), CHUNK - 1):
        _prove(anatomy, anatomy.sites[start : start + CHUNK - 1])


def _prove(anatomy: Anatomy, sites: tuple[str, ...]) -> None:
    rows = [Request("untouched", PROMPT, 1)]
    rows += [Request(site, PROMPT, 1, terms=(Term(site),), positions="generated") for site in sites]
    logits, seen = _step(anatomy, rows)
    wrong = list(_unbalanced(anatomy, ["untouched", *sites], seen))
    if wrong:
        raise UserError(
            "zeroing a site must equal removing what its component adds to the residual stream",
            f"not so in {type(anatomy.model).__name__}: {', '.join(wrong[:6])}",
            "this architecture adds its components in a way that raybt does not know; report it",
        )
    least = SMALLEST * float(logits[0].abs().max())
    dead = [site for site, row in zip(sites, logits[1:], strict=True) if float((row - logits[0]).abs().max()) <= least]
    if dead:
        raise UserError(
            "zeroing a site must change the logits",
            f"no change at {', '.join(dead[:6])}",
            "check the weights; a dead hook would give a null result that means nothing",
        )


def _unbalanced(anatomy: Anatomy, rows: list[str], seen: Seen) -> Iterator[str]:
    """Rows in which some block does not add up."""
    tolerance = TOLERANCE[anatomy.model.dtype]
    for row, zeroed in enumerate(rows):
        for layer in range(anatomy.n_layers):
            x, a, m, y = (seen[f"{part}.{layer}"][0][row] for part in ("in", "attn", "mlp", "out"))
            expected = x + (zeroed != f"attn.{layer}") * a + (zeroed != f"mlp.{layer}") * m
            scale = max(float(part.abs().max()) for part in (x, a, m)) or 1.0
            if float((y - expected).abs().max()) > tolerance * scale:
                yield f"{zeroed} at block {layer}"
                break
            left = seen[f"resid.{layer}"][0][row]
            if zeroed == f"resid.{layer}" and bool(left.any()):
                yield zeroed
        if zeroed.startswith("head.") and not _head_left(anatomy, zeroed, row, seen, tolerance):
            yield zeroed


def _head_left(anatomy: Anatomy, site: str, row: int, seen: Seen, tolerance: float) -> bool:
    """Whether the projection gave what it gives with this head's input at zero."""
    name, _, head = site.rpartition(".")
    point = anatomy.point(name)
    entered, gave = (seen[f"{side} {name}"][0] for side in ("into", "from"))
    without = entered[row].clone()
    width = without.shape[-1] // point.heads
    without[..., int(head) * width : (int(head) + 1) * width] = 0
    expected = point.module.forward(without[None].to(anatomy.model.dtype))[0].float()
    return float((gave[row] - expected).abs().max()) <= tolerance * max(float(expected.abs().max()), 1e-6)


@torch.inference_mode()
def _step(anatomy: Anatomy, rows: list[Request], hooked: bool = True) -> tuple[Tensor, Seen]:
    """One step of all rows: logits [rows, vocabulary], and what every block and component took and gave."""
    slots = max(GRAIN, -(-len(rows) // GRAIN) * GRAIN)
    with _watched(anatomy) as before:  # registered before the hooks, so it sees what they have not changed yet
        decoder = Decoder(anatomy, Sampling(greedy=True), slots, length=GRAIN)
        if not hooked:
            decoder.close()
        try:
            with _watched(anatomy, after=True) as after:
                decoder.submit(rows)
                decoder.refill([])
                for seen in (before, after):
                    seen.clear()  # what prefill left
                logits = decoder.forward()[: len(rows)]
        finally:
            decoder.close()
    return logits, before | after


@contextmanager
def _watched(anatomy: Anatomy, after: bool = False) -> Iterator[Seen]:
    """Record blocks and components; `after` those values that raybt's own hooks, registered earlier, have changed."""
    seen: Seen = {}
    handles = []

    def on_output(module: Any, name: str) -> None:
        handles.append(module.register_forward_hook(lambda _m, _i, out: _keep(seen, name, out)))

    for layer, block in enumerate(find_blocks(anatomy.model)):
        attention, head = anatomy.point(f"attn.{layer}"), anatomy.point(f"head.{layer}")
        if after:
            on_output(block, f"resid.{layer}")
            on_output(head.module, f"from head.{layer}")
            continue
        handles.append(block.register_forward_pre_hook(lambda _m, args, kwargs, layer=layer: _keep(
            seen, f"in.{layer}", args[0] if args else kwargs["hidden_states"]), with_kwargs=True))  # fmt: skip
        handles.append(head.module.register_forward_pre_hook(_into(seen, head)))
        on_output(attention.module, f"attn.{layer}")
        on_output(anatomy.point(f"mlp.{layer}").module, f"mlp.{layer}")
        on_output(block, f"out.{layer}")
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _into(seen: Seen, point: Point):
    return lambda _module, inputs: _keep(seen, f"into {point.name}", inputs[0])


def _keep(seen: Seen, name: str, value: Any) -> None:
    tensor = value[0] if isinstance(value, tuple) else value
    seen.setdefault(name, []).append(tensor.detach().reshape(-1, tensor.shape[-1]).float().clone())
