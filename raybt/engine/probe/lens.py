"""The logit lens (nostalgebraist 2020) and direct logit attribution (Elhage et al. 2021) at positions of a text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, find_blocks
from raybt.engine.probe.copied import CopiedText
from raybt.engine.probe.shared import Text, prefilled_text
from raybt.errors import UserError

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""How far the last layer's lens may be from the model's own logits, of the largest of these. The largest distances seen
are in docs/log.md."""
NEAR_ONE = 5e-3  # a factor between lens and logits so near to 1 is rounding
ROUNDING = "rounding"
"""In half precision the stream is rounded after every addition; without this part the others would not sum to it."""


@dataclass(frozen=True)
class Lens:
    """What the residual stream at each event would say of that event's target, if it went straight to the head.

    Args:
        places: `attn.0`, `mlp.0`, `attn.1`, ...: after which component the stream was read.
        logit, log_probability: [events, places].
        rank: [events, places] tokens likelier than the target.
        attribution: [events, components] what each component adds to the target's logit, the final norm's scale held
            at what it is; the sum is the logit before any soft cap.
        components: `embedding`, then as in `places`, then `rounding` where the model is not float32, then `bias`.
    """

    places: tuple[str, ...]
    logit: Tensor
    log_probability: Tensor
    rank: Tensor
    attribution: Tensor
    components: tuple[str, ...]


@torch.inference_mode()
def lens(anatomy: Anatomy, tokens: Sequence[int], events: Sequence[int], targets: Sequence[int]) -> Lens:
    """Read the stream at the position before each event, after every attention and every MLP.

    The whole text is prefilled once, and every event is a step of its own, so that no number depends on which events
    are asked for together.

    Args:
        tokens: prompt and completion.
        events: positions of the predicted tokens, each at least 1.
        targets: for each event the token whose logit is followed.

    Raises:
        UserError: the last layer's lens is not what the model says, so the final norm or head was not understood.
    """
    anatomy.demand("lens")
    text, head = prefilled_text(anatomy, tuple(tokens)), Head(anatomy)
    added = tuple(f"{kind}.{layer}" for layer in range(anatomy.n_layers) for kind in ("attn", "mlp"))
    rows = [_at(text, head, added, event, target) for event, target in zip(events, targets, strict=True)]
    logit, log_probability, rank, attribution = (torch.stack(column) for column in zip(*rows, strict=True))
    rounding = () if anatomy.model.dtype == torch.float32 else (ROUNDING,)
    return Lens(added, logit, log_probability, rank, attribution, ("embedding", *added, *rounding, "bias"))


def _at(text: Text | CopiedText, head: "Head", added: tuple[str, ...], event: int, target: int) -> tuple[Tensor, ...]:
    """Logit, log-probability and rank of the target at each place, [places], and attribution, [components]."""
    with _recorded(text.anatomy) as seen:
        logits = text.read(torch.tensor([event - 1], device=text.anatomy.device)).float()
    after = torch.cat(list(_streams(seen, text.anatomy.n_layers)))  # [places, hidden]
    said = head(after)  # [places, vocabulary]
    scale = head.scale(said[-1], logits[0])
    said = head.capped(said * scale)
    _check(said[-1], logits[0], text.anatomy)
    parts = [seen["in.0"], *(seen[name] for name in added)]
    parts = torch.cat([part.float() for part in parts])  # [components, hidden]
    if text.anatomy.model.dtype != torch.float32:
        parts = torch.cat([parts, after[-1:].float() - parts.sum(0)])
    of_target = said[:, target]
    rank = (said > of_target[:, None]).sum(-1)
    attribution = scale * head.attribute(parts, after[-1].float(), target)
    return of_target, of_target - said.logsumexp(-1), rank, attribution


def _streams(seen: dict[str, Tensor], n_layers: int) -> Iterator[Tensor]:
    """The stream after each attention and each MLP, [1, hidden] in the model's type: as the model rounds it."""
    for layer in range(n_layers):
        yield seen[f"in.{layer}"] + seen[f"attn.{layer}"]
        yield seen[f"out.{layer}"]


class Head:
    """The way from the residual stream to the logits: final norm, unembedding, a constant factor, soft cap."""

    def __init__(self, anatomy: Anatomy):
        self.norm, self.unembedding = _final_norm(anatomy), anatomy.model.get_output_embeddings()
        self.cap = getattr(anatomy.model.config.get_text_config(), "final_logit_softcapping", None)
        self.half = anatomy.model.dtype != torch.float32

    def __call__(self, stream: Tensor) -> Tensor:
        """stream: [rows, hidden]; gives logits [rows, vocabulary] float32, before factor and cap."""
        return self.unembedding(self.norm(stream)).float()

    def capped(self, logits: Tensor) -> Tensor:
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def scale(self, said: Tensor, logits: Tensor) -> float:
        """The factor between what norm and unembedding give and the model's logits, both [vocabulary]; mostly 1.

        Cohere and Granite multiply by a constant of theirs. Read from the numbers, for each family names it otherwise.
        """
        said, logits = said.double(), logits.double()
        if self.cap is not None:
            below = logits.abs() < 0.9 * self.cap  # nearer to the cap, rounding is all there is
            said, logits = said[below], self.cap * torch.atanh(logits[below] / self.cap)
        factor = float(said @ logits / (said @ said).clamp(min=1e-300))
        return 1.0 if abs(factor - 1) < NEAR_ONE else factor

    def attribute(self, parts: Tensor, final: Tensor, target: int) -> Tensor:
        """parts: [components, hidden], which sum to `final` [hidden]; gives [components + 1], bias last.

        With its statistics held, a norm multiplies each dimension by a number and adds another. Both are read off it: a
        vector of zeros gives what it adds, one whose elements are plus and minus the stream's own size gives the
        factors, and one whose elements are all alike tells whether it takes the mean away first. So it does not matter
        how a family writes its norm.
        """
        norm = deepcopy(self.norm).float() if self.half else self.norm
        signs = torch.ones_like(final)
        signs[::2] = -1
        zero, even = norm(torch.stack([torch.zeros_like(final), torch.ones_like(final)]))
        if bool(((even - zero).abs() <= 1e-3 * (norm(signs[None])[0] - zero).abs()).all()):
            parts, final = (x - x.mean(-1, keepdim=True) for x in (parts, final))
        size = final.pow(2).mean().sqrt()
        factor = (norm((size * signs)[None])[0] - zero) * signs / size  # [hidden]
        row = self.unembedding.weight[target].float()  # [hidden]
        bias = zero @ row
        if getattr(self.unembedding, "bias", None) is not None:
            bias = bias + self.unembedding.bias[target]
        return torch.cat([parts * factor @ row, bias[None]])


def _final_norm(anatomy: Anatomy) -> Any:
    blocks = find_blocks(anatomy.model)
    for module in anatomy.model.modules():
        if any(child is blocks for child in module.children()):
            found = [getattr(module, name) for name in FINAL_NORMS if hasattr(module, name)]
            if found:
                return found[0]
    raise UserError(
        f"the lens needs the model's final norm, beside its blocks and named one of {', '.join(FINAL_NORMS)}",
        type(anatomy.model).__name__,
        "use a supported architecture",
    )


def _check(said: Tensor, logits: Tensor, anatomy: Anatomy) -> None:
    apart = float((said - logits).abs().max())
    if not apart <= TOLERANCE[anatomy.model.dtype] * float(logits.abs().max()):
        raise UserError(
            "the last layer's lens must equal the model's logits",
            f"they are {apart:.2g} apart in {type(anatomy.model).__name__}",
            "this architecture does more after its blocks than norm, head and soft cap; report it",
        )


@contextmanager
def _recorded(anatomy: Anatomy) -> Iterator[dict[str, Tensor]]:
    """What enters and leaves each block and what each component adds, [rows, hidden] in the model's type."""
    seen: dict[str, Tensor] = {}
    handles = []

    def keep(name: str, value: Any) -> None:
        seen[name] = (value[0] if isinstance(value, tuple) else value).flatten(0, -2)

    def on_output(module: Any, name: str) -> None:
        handles.append(module.register_forward_hook(lambda _m, _i, out: keep(name, out)))

    for layer, block in enumerate(find_blocks(anatomy.model)):
        handles.append(block.register_forward_pre_hook(lambda _m, args, kwargs, layer=layer: keep(
            f"in.{layer}", args[0] if args else kwargs["hidden_states"]), with_kwargs=True))  # fmt: skip
        on_output(block, f"out.{layer}")
    for point in anatomy.points:
        if point.name.startswith(("attn.", "mlp.")):
            on_output(point.module, point.name)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
