"""Sites, and interventions on them in canonical form.

A site is one place in the model where an intervention acts: `attn.3` and `mlp.3` are the outputs of layer 3's
attention and MLP. Layers count from 0. The canonical form of an intervention is a JSON list of terms
`[site, operation, strength]`: every site named once, in order, terms that change nothing left out. So two ways of
writing one intervention have one form, and the baseline is `[]`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raybt.errors import UserError

KINDS = ("attn", "mlp")
NO_CHANGE = 1.0  # the factor at which `scale` is no intervention
EMPTY = "[]"  # the baseline's canonical form

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PATTERN = re.compile(rf"({'|'.join(KINDS)})\.(?:({_NUMBER})(?:-({_NUMBER}))?|(\*))")


class Term(NamedTuple):
    site: str
    operation: str
    strength: float


def expand(patterns: Sequence[str], n_layers: int) -> tuple[str, ...]:
    """Patterns such as `mlp.19`, `mlp.19-27`, `attn.*` -> sites, each once, attention first, then by layer.

    Ranges include both ends and may overlap.

    Raises:
        UserError: a pattern is malformed, repeated, or names a layer that the model does not have.
    """
    if not patterns:
        raise UserError("a subset needs at least one site", "none", "name a site, for example mlp.0")
    repeated = sorted({pattern for pattern in patterns if patterns.count(pattern) > 1})
    if repeated:
        raise UserError("a site may stand only once in a subset", ", ".join(repeated), "remove the repeats")
    sites = {site for pattern in patterns for site in _expand_one(pattern, n_layers)}
    return tuple(sorted(sites, key=order))


def order(site: str) -> tuple[int, int]:
    """Sort key of sites: attention before MLP, then by layer as a number."""
    kind, _, layer = site.partition(".")
    return KINDS.index(kind), int(layer)


def canonical(sites: Iterable[str], scale: float) -> str:
    """Scaling the outputs of `sites` by `scale`, as canonical JSON.

    >>> canonical(["mlp.3", "attn.10", "attn.2"], 0)
    '[["attn.2","scale",0.0],["attn.10","scale",0.0],["mlp.3","scale",0.0]]'
    >>> canonical(["mlp.3"], 1.0)
    '[]'
    """
    strength = float(scale) + 0.0  # -0.0 becomes 0.0
    if strength == NO_CHANGE:
        return EMPTY
    terms = [[site, "scale", strength] for site in sorted(set(sites), key=order)]
    return json.dumps(terms, separators=(",", ":"), allow_nan=False)


def parse_canonical(text: str) -> tuple[Term, ...]:
    """The terms of a canonical intervention."""
    return tuple(Term(site, operation, float(strength)) for site, operation, strength in json.loads(text))


def _expand_one(pattern: str, n_layers: int) -> list[str]:
    kind, first, last = _bounds(pattern, n_layers)
    if last >= n_layers:
        raise UserError(
            f"a site must be in the model, which has layers 0 to {n_layers - 1}",
            pattern,
            f"name layers up to {n_layers - 1}",
        )
    if first > last:
        raise UserError(
            "a range of sites goes from the lower layer to the higher", pattern, f"write {kind}.{last}-{first}"
        )
    return [f"{kind}.{layer}" for layer in range(first, last + 1)]


def _bounds(pattern: str, n_layers: int) -> tuple[str, int, int]:
    """(kind, first layer, last layer) of a pattern, both included."""
    match = _PATTERN.fullmatch(pattern)
    if not match:
        raise UserError(
            f"a site is one of {', '.join(KINDS)}, a dot, and a layer, a range or *",
            repr(pattern),
            "write for example mlp.19, mlp.19-27 or attn.*",
        )
    kind, first, last, every = match.groups()
    if every:
        return kind, 0, n_layers - 1
    return kind, int(first), int(last or first)
