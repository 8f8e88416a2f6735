"""Proof of an architecture before its weights are read: a small random copy, decoded and probed, against its own pass.

The proof at load reads three tokens in one row. What goes wrong later (past a window, a chunk or a switch of rotary
frequencies, beside a longer row, in a probe that reads another way than decoding) shows here, in some tens of tokens.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.cache import GRAIN
from raybt.engine.features import features
from raybt.engine.probe.lens import Head, lens
from raybt.engine.probe.scan import scan
from raybt.engine.request import Request, Term
from raybt.engine.score import forced_logits
from raybt.engine.shrink import SWITCH, small_copy
from raybt.errors import UserError, first_line

LARGEST = 500_000_000
"""Parameters of a copy that could not be made narrow, at most."""
EXACT = 1e-3
"""Of the logits' spread: how far any position's may be from the model's own pass in float32, root mean square."""
ROUNDING, AT_LEAST = 2.0, {torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""In half precision raybt may be so many times as far from float32 as the model's own pass is, and so far in any case:
a few logits may by chance be rounded little. What is wrong is farther off by far."""
LENGTHS = {"short": (2, 8), "long": (3, SWITCH), "late": (30, SWITCH)}
"""Rows side by side: tokens of the prompt, and of the whole."""
EVENTS = (5, 20, SWITCH - 1)
WAYS = ("shared", "copied")  # to read a text, the cheaper first
CHANGES: tuple[tuple[Term, ...], ...] = ((Term("attn.0"),), (Term("mlp.1"),))


@dataclass(frozen=True)
class Proof:
    """What raybt does right with an architecture.

    Args:
        model_type: as its config names it.
        faults: `decode`, `scan` or `lens` -> why it is not supported; what is absent is proved.
        texts: how probes must read a text, see `Anatomy`.
    """

    model_type: str
    faults: dict[str, str] = field(default_factory=dict)
    texts: str = "shared"


@torch.inference_mode()
def prove_architecture(
    config: Any, dtype: torch.dtype, device: str, attention: str, trust_remote_code: bool = False
) -> Proof:
    """Decode and probe a small copy of the model in float32, and in its own type.

    Args:
        config: the whole model's.
        attention: transformers' name of the attention that the model will have.

    Raises:
        UserError: no copy can be made, or its blocks are not such as raybt knows.
    """
    exact = dissect(_random_copy(config, torch.float32, device, attention, trust_remote_code))
    own = None
    if dtype != torch.float32:
        own = dissect(_random_copy(config, dtype, device, attention, trust_remote_code))
        own.model.load_state_dict(exact.model.state_dict())
    marks = features(exact.model)
    decode = _fault(DECODE, exact, own, marks)
    for texts in WAYS:
        exact, own = replace(exact, texts=texts), own and replace(own, texts=texts)
        probes = {"scan": _fault(SCAN, exact, own, marks), "lens": _fault(LENS, exact, own, marks)}
        if not any(probes.values()):
            break
    faults = {"decode": decode, **probes}
    return Proof(exact.model.config.model_type, {name: why for name, why in faults.items() if why}, texts)


def _fault(measure: "Measure", exact: Anatomy, own: Anatomy | None, marks: tuple[str, ...]) -> str | None:
    """Why a measure cannot be trusted, or None."""
    by_raybt, by_itself = measure
    try:
        expected = by_itself(exact)
        spread = float(expected.std())
        apart = float(_root_mean_square(by_raybt(exact) - expected, -1).max()) / spread
        allowed = EXACT
        if own is not None and apart <= EXACT:
            apart, allowed = (
                float(_root_mean_square(one - expected)) / spread for one in (by_raybt(own), by_itself(own))
            )
            allowed = max(ROUNDING * allowed, AT_LEAST[own.model.dtype])
    except Exception as error:  # whatever a model's own code raises
        return _because(first_line(error, 200), marks)
    if apart <= allowed:  # false for NaN
        return None
    return _because(f"{apart:.2g} of the logits' spread from the model's own pass, {allowed:.2g} allowed", marks)


def _because(what: str, marks: tuple[str, ...]) -> str:
    return f"{' and '.join(marks)} ({what})" if marks else what


def _root_mean_square(x: Tensor, *dims: int) -> Tensor:
    return x.float().pow(2).mean(*dims).sqrt()


def _decoded(anatomy: Anatomy) -> Tensor:
    rows = {name: (tokens[:begun], tokens[begun:]) for name, (begun, tokens) in _rows(anatomy).items()}
    requests = [Request(name, prompt, len(rest)) for name, (prompt, rest) in rows.items()]
    found = forced_logits(anatomy, requests, {name: rest for name, (_, rest) in rows.items()}, slots=GRAIN)
    return torch.cat([found[name].float() for name in rows])


def _decoded_by_itself(anatomy: Anatomy) -> Tensor:
    return torch.cat([_pass(anatomy, tokens)[begun - 1 : -1] for begun, tokens in _rows(anatomy).values()])


def _scanned(anatomy: Anatomy) -> Tensor:
    found = scan(anatomy, _text(anatomy), EVENTS, CHANGES)
    return torch.cat([found.identity, found.logits.flatten(0, 1)])


def _scanned_by_itself(anatomy: Anatomy) -> Tensor:
    text = _text(anatomy)
    plain = [_pass(anatomy, text[:event])[-1] for event in EVENTS]
    changed = []
    for event in EVENTS:
        for ((site, *_),) in CHANGES:
            with _last_zeroed(anatomy, site):
                changed.append(_pass(anatomy, text[:event])[-1])
    return torch.stack(plain + changed)


def _read(anatomy: Anatomy) -> Tensor:
    """The last layer's lens and the sum of the attribution, of a few targets: [events, 2]."""
    text = _text(anatomy)
    found = lens(anatomy, text, EVENTS, [text[event] for event in EVENTS])
    return torch.stack([found.logit[:, -1], Head(anatomy).capped(found.attribution.sum(-1))], -1).cpu()


def _read_by_itself(anatomy: Anatomy) -> Tensor:
    text = _text(anatomy)
    said = torch.stack([_pass(anatomy, text[:event])[-1, text[event]] for event in EVENTS])
    return said[:, None].expand(-1, 2).cpu()


Measure = tuple[Callable[[Anatomy], Tensor], Callable[[Anatomy], Tensor]]
DECODE: Measure = (_decoded, _decoded_by_itself)
SCAN: Measure = (_scanned, _scanned_by_itself)
LENS: Measure = (_read, _read_by_itself)
"""Logits as raybt gives them, and as the model's own uncached pass does, both float32."""


def _random_copy(config: Any, dtype: torch.dtype, device: str, attention: str, trust_remote_code: bool) -> Any:
    """A model of the small config, its parameters random, such that every part has a say in the logits.

    Raises:
        UserError: it cannot be made, or only as wide as the whole model and too large for a proof.
    """
    why = ""
    for narrow in (True, False):
        try:
            small = small_copy(config, narrow)
            with torch.device("meta"):
                made = {"dtype": dtype, "attn_implementation": attention, "trust_remote_code": trust_remote_code}
                size = sum(p.numel() for p in AutoModelForCausalLM.from_config(small, **made).parameters())
            if size > LARGEST:
                why = why or f"two layers of it have {size:,} parameters"
                continue
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model: Any = AutoModelForCausalLM.from_config(small, **made)
                _shuffle(model)
            model = model.to(device).eval().requires_grad_(False)
            model(torch.arange(3, 8, device=device)[None], use_cache=False)
            return model
        except ImportError as error:
            raise lacking(config.name_or_path or config.model_type, error) from error
        except Exception as error:  # whatever a config or a model's own code raises
            why = why or f"{type(error).__name__}: {first_line(error, 200)}"
    raise UserError(
        "raybt proves an architecture on a small copy of it before it runs one",
        f"no copy of {getattr(config, 'model_type', type(config).__name__)} could be made ({why})",
        "use a supported architecture, or report this one",
    )


def lacking(model: str, error: ImportError) -> UserError:
    """The refusal of a model whose code needs a package that is not installed."""
    return UserError(
        "what a model needs must be installed wherever replicas run",
        f"{model} ({' '.join(str(error).split())[:200]})",
        "install it there, or use a model without it",
    )


def _shuffle(model: Any) -> None:
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms and biases that start at 1 and 0 would hide mistakes
            parameter.data += 0.3 * torch.randn_like(parameter)
        else:
            parameter.data = torch.randn_like(parameter) * parameter.shape[-1] ** -0.5
    if model.get_input_embeddings().weight is not model.get_output_embeddings().weight:
        model.get_input_embeddings().weight.data.normal_()


def _rows(anatomy: Anatomy) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Name -> (tokens of its prompt, all its tokens)."""
    return {name: (begun, _text(anatomy, seed, whole)) for seed, (name, (begun, whole)) in enumerate(LENGTHS.items())}


def _text(anatomy: Anatomy, seed: int = 9, length: int = SWITCH) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, anatomy.vocabulary, (length,), generator=generator).tolist())


def _pass(anatomy: Anatomy, tokens: tuple[int, ...]) -> Tensor:
    ids = torch.tensor([tokens], device=anatomy.device)
    return anatomy.model(input_ids=ids, use_cache=False).logits[0].float()


@contextmanager
def _last_zeroed(anatomy: Anatomy, site: str):
    """The site's output at the last position is zero within this block, by a hook of its own."""

    def zero(_module: Any, _inputs: Any, output: Any) -> Any:
        x = (output[0] if isinstance(output, tuple) else output).clone()
        x.view(-1, x.shape[-1])[-1] = 0
        return (x, *output[1:]) if isinstance(output, tuple) else x

    handle = anatomy.point(site).module.register_forward_hook(zero)
    try:
        yield
    finally:
        handle.remove()
