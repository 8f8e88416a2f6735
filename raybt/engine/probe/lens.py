"""The logit lens (nostalgebraist 2020) and direct logit attribution (Elhage et al. 2021) at positions of a text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raybt.engine.anatomy import Anatomy, find_blocks
from raybt.engine.probe.shared import Text
from raybt.errors import UserError

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
TOLERANCE = 1e-3  # of the largest logit: how exactly the last layer's lens must give the model's own logits


@dataclass(frozen=True)
class Lens:
    """What the residual stream at each event would say of that event's target, if it went straight to the head.

    Args:
        places: `attn.0`, `mlp.0`, `attn.1`, ...: after which component the stream was read.
        logit, log_probability: [events, places].
        rank: [events, places] tokens likelier than the target.
        attribution: [events, components] what each component adds to the target's logit, the final norm's scale held
            at what it is; the sum is the logit before any soft cap.
        components: `embedding`, then as in `places`, then `bias`.
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
    text, head = Text(anatomy, tuple(tokens)), _Head(anatomy)
    added = tuple(f"{kind}.{layer}" for layer in range(anatomy.n_layers) for kind in ("attn", "mlp"))
    rows = [_at(text, head, added, event, target) for event, target in zip(events, targets, strict=True)]
    logit, log_probability, rank, attribution = (torch.stack(column) for column in zip(*rows, strict=True))
    return Lens(added, logit, log_probability, rank, attribution, ("embedding", *added, "bias"))


def _at(text: Text, head: "_Head", added: tuple[str, ...], event: int, target: int) -> tuple[Tensor, ...]:
    """Logit, log-probability and rank of the target at each place, [places], and attribution, [components]."""
    with _recorded(text.anatomy) as seen:
        logits = text.read(torch.tensor([event - 1], device=text.anatomy.device)).float()
    parts = torch.cat([seen["in.0"], *(seen[name] for name in added)])  # [components, hidden]
    after = parts.cumsum(0)[1:]  # [places, hidden]
    said = head(after)  # [places, vocabulary]
    _check(said[-1], logits[0], text.anatomy)
    index = torch.tensor([target], device=said.device)
    of_target = said[:, target]
    rank = (said > of_target[:, None]).sum(-1)
    return of_target, of_target - said.logsumexp(-1), rank, head.attribute(parts[:, None], after[-1:], index)[0]


class _Head:
    """The way from the residual stream to the logits: final norm, unembedding, soft cap."""

    def __init__(self, anatomy: Anatomy):
        self.norm, self.unembedding = _final_norm(anatomy), anatomy.model.get_output_embeddings()
        self.cap = getattr(anatomy.model.config.get_text_config(), "final_logit_softcapping", None)
        self.dtype = anatomy.model.dtype

    def __call__(self, stream: Tensor) -> Tensor:
        """stream: [rows, hidden]; gives logits [rows, vocabulary] float32."""
        logits = self.unembedding(self.norm(stream.to(self.dtype))).float()
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def attribute(self, parts: Tensor, final: Tensor, targets: Tensor) -> Tensor:
        """parts: [components, events, hidden], which sum to `final`; gives [events, components + 1], bias last.

        With its statistics held, the norm multiplies each dimension by a number. A constant vector of the stream's own
        root mean square shows these numbers, whatever form the norm's weight takes.
        """
        centred = isinstance(self.norm, nn.LayerNorm)
        norm_bias = self.norm.bias if centred and self.norm.bias is not None else torch.zeros_like(final[0])
        if centred:
            parts, final = (x - x.mean(-1, keepdim=True) for x in (parts, final))
            size = (final.pow(2).mean(-1, keepdim=True) + self.norm.eps).sqrt()
            factor = self.norm.weight / size
        else:
            size = final.pow(2).mean(-1, keepdim=True).sqrt()
            factor = self.norm((size * torch.ones_like(final)).to(self.dtype)).float() / size  # [events, hidden]
        rows = self.unembedding.weight[targets].float()  # [events, hidden]
        given = (parts * factor * rows).sum(-1).T  # [events, components]
        bias = (norm_bias * rows).sum(-1, keepdim=True)
        if getattr(self.unembedding, "bias", None) is not None:
            bias = bias + self.unembedding.bias[targets][:, None]
        return torch.cat([given, bias], dim=1)


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
    if apart > TOLERANCE * float(logits.abs().max()):
        raise UserError(
            "the last layer's lens must equal the model's logits",
            f"they are {apart:.2g} apart in {type(anatomy.model).__name__}",
            "this architecture does more after its blocks than norm, head and soft cap; report it",
        )


@contextmanager
def _recorded(anatomy: Anatomy) -> Iterator[dict[str, Tensor]]:
    """What enters the first block and what each component adds, [rows, hidden] float32."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Any) -> None:
        seen[name] = (value[0] if isinstance(value, tuple) else value)[:, -1].float()

    first = find_blocks(anatomy.model)[0]
    handles = [first.register_forward_pre_hook(lambda _m, args, kwargs: keep(
        "in.0", args[0] if args else kwargs["hidden_states"]), with_kwargs=True)]  # fmt: skip
    for point in anatomy.points:
        if point.name.startswith(("attn.", "mlp.")):
            handles.append(point.module.register_forward_hook(lambda _m, _i, out, name=point.name: keep(name, out)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
