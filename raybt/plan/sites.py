"""Sites, and interventions on them in canonical form.

A site is one place in the model where an intervention acts: `attn.3` and `mlp.3` are what layer 3's attention and MLP
add to the residual stream, `resid.3` is the stream after that layer, and `head.3.5` is head 5's part of the attention
before its output projection. Layers and heads count from 0. The canonical form of an intervention is a JSON list of
terms `[site, operation, strength]`, or `[site, operation, strength, hash of the vector]`: every site named once, in
order, terms that change nothing left out. So two ways of writing one intervention have one form, and the baseline
is `[]`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raybt.errors import UserError

KINDS = ("attn", "mlp", "resid", "head")
NO_CHANGE = 1.0  # the factor at which `scale` is no intervention
EMPTY = "[]"  # the baseline's canonical form

_NUMBER = r"(?:0|[1-9][0-9]*)"
_RANGE = rf"(?:{_NUMBER}(?:-{_NUMBER})?|\*)"
_PATTERN = re.compile(rf"(attn|mlp|resid)\.({_RANGE})|(head)\.({_RANGE})\.({_RANGE})")


class Term(NamedTuple):
    site: str
    operation: str
    strength: float
    vector: str | None = None


def expand(patterns: Sequence[str], n_layers: int, n_heads: int = 0) -> tuple[str, ...]:
    """Patterns such as `mlp.19`, `mlp.19-27`, `attn.*`, `head.3.*` -> sites, each once, by kind, then by layer.

    Ranges include both ends and may overlap.

    Raises:
        UserError: a pattern is malformed, repeated, or names a layer or head that the model does not have.
    """
    if not patterns:
        raise UserError("a subset needs at least one site", "none", "name a site, for example mlp.0")
    repeated = sorted({pattern for pattern in patterns if patterns.count(pattern) > 1})
    if repeated:
        raise UserError("a site may stand only once in a subset", ", ".join(repeated), "remove the repeats")
    sites = {site for pattern in patterns for site in _expand_one(pattern, n_layers, n_heads)}
    return tuple(sorted(sites, key=order))


def order(site: str) -> tuple[int, ...]:
    """Sort key of sites: attention, MLP, stream, heads; then by layer and head as numbers."""
    kind, *numbers = site.split(".")
    return KINDS.index(kind), *map(int, numbers)


def canonical(sites: Iterable[str], scale: float) -> str:
    """Scaling the outputs of `sites` by `scale`, as canonical JSON.

    >>> canonical(["mlp.3", "attn.10", "attn.2"], 0)
    '[["attn.2","scale",0.0],["attn.10","scale",0.0],["mlp.3","scale",0.0]]'
    >>> canonical(["mlp.3"], 1.0)
    '[]'
    """
    return canonical_terms(Term(site, "scale", scale) for site in set(sites))


def canonical_terms(terms: Iterable[Term]) -> str:
    """Any intervention as canonical JSON. `zero` is `scale` by 0.

    >>> canonical_terms([Term("mlp.3", "add", 2, "ab12"), Term("attn.1", "add", 0, "cd34")])
    '[["mlp.3","add",2.0,"ab12"]]'
    """
    plain = [term._replace(operation="scale", strength=0.0) if term.operation == "zero" else term for term in terms]
    changing = sorted((term for term in plain if _changes(term)), key=lambda term: order(term.site))
    listed = [[t.site, t.operation, float(t.strength) + 0.0, *([t.vector] if t.vector else [])] for t in changing]
    return json.dumps(listed, separators=(",", ":"), allow_nan=False)  # + 0.0: -0.0 becomes 0.0


def _changes(term: Term) -> bool:
    return term.operation == "clamp" or term.strength != (NO_CHANGE if term.operation == "scale" else 0.0)


def parse_canonical(text: str) -> tuple[Term, ...]:
    """The terms of a canonical intervention."""
    return tuple(Term(*term) for term in json.loads(text))


def _expand_one(pattern: str, n_layers: int, n_heads: int) -> list[str]:
    match = _PATTERN.fullmatch(pattern)
    if not match:
        raise UserError(
            "a site is one of attn, mlp, resid, a dot, and a layer, a range or *; or head, layer and head likewise",
            repr(pattern),
            "write for example mlp.19, mlp.19-27, attn.* or head.3.5",
        )
    kind, layers = match[1] or match[3], match[2] or match[4]
    found = [f"{kind}.{layer}" for layer in _numbers(pattern, layers, n_layers, "layers")]
    if kind != "head":
        return found
    heads = _numbers(pattern, match[5], n_heads, "heads")
    return [f"{site}.{head}" for site in found for head in heads]


def _numbers(pattern: str, text: str, count: int, what: str) -> range:
    """The layers or heads that `3`, `3-5` or `*` names, both ends included."""
    if text == "*":
        return range(count)
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    if high >= count:
        raise UserError(
            f"a site must be in the model, which has {what} 0 to {count - 1}",
            pattern,
            f"name {what} up to {count - 1}",
        )
    if low > high:
        turned = pattern.replace(text, f"{high}-{low}")
        raise UserError("a range of sites goes from the lower number to the higher", pattern, f"write {turned}")
    return range(low, high + 1)
