"""The two halves of the problems: what is selected on one is confirmed on the other.

A problem's half and its place in hash order depend on the seed and its id alone. So they stay as they are when
problems come and go, and the first n problems in hash order are a random sample for every n.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

from raybt.errors import UserError

Half = Literal["select", "confirm"]
_DIGEST_BYTES = 8


def half(seed: int, problem: str, share: float) -> Half:
    """The half of one problem; `share` of all problems, in expectation, are in `select`."""
    return "select" if digest(seed, "half", problem) < share * 2 ** (8 * _DIGEST_BYTES) else "confirm"


def in_half(
    problems: Iterable[str], seed: int, share: float, which: Literal["select", "confirm", "all"]
) -> tuple[str, ...]:
    """The problems of one half, or all, each once, in hash order.

    Raises:
        UserError: one half or the other is asked for and either is empty: nothing could then be selected or confirmed.
    """
    ordered = hash_order(problems, seed)
    if which == "all":
        return ordered
    halves: dict[Half, tuple[str, ...]] = {
        name: tuple(problem for problem in ordered if half(seed, problem, share) == name)
        for name in ("select", "confirm")
    }
    for name, members in halves.items():
        if not members:
            raise UserError(
                "the half of the problems that selects and the half that confirms each need a problem",
                f"none of {len(ordered)} problems to {name} with share {share:g} and seed {seed}",
                "take more problems, or a share nearer 0.5",
            )
    return halves[which]


def hash_order(ids: Iterable[str], seed: int, purpose: str = "order") -> tuple[str, ...]:
    """Ids, each once, in an order that is random but the same for everybody; other purposes have other orders."""
    return tuple(sorted(set(ids), key=lambda name: (digest(seed, purpose, name), name)))


def digest(seed: int, purpose: str, *parts: object) -> int:
    """A hash of these parts as an unsigned 64-bit integer."""
    hasher = blake2b(digest_size=_DIGEST_BYTES, person=b"raybt study")
    for part in (seed, purpose, *parts):
        data = str(part).encode()
        hasher.update(len(data).to_bytes(8, "little") + data)  # length first, so that parts do not run together
    return int.from_bytes(hasher.digest(), "little")
