"""The numbers that hooks read, and which hooks have any to read."""

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from raybt.engine.request import DIRECTED, Term


class Coefficients:
    """What each site does to each place (a slot, or a position of a prompt in prefill).

    Every operation is one formula, y = gain x + (push + pull (x.v)) v, so all of them mix in one batch. Numbers are
    fp32 whatever the model's type: a bf16 factor would be another factor.

    Attributes:
        gain, push, pull: [sites, places].
        vector: [sites, places] row of v in the bank; `spread` rows from there on are drawn from, 1 for a fixed one.
        changing: [sites, places] 1 where gain, push and pull change an output; see `note`.
        touched: [sites, places] positions at which the hook changed the output.
        gate: [places] bool, where a kernel applies any of it at this step; None everywhere.
        draws: [places] this step's random integers, for a kernel; None where nothing is drawn.
    """

    def __init__(self, sites: int, places: int, device: torch.device):
        shape = (sites, places)
        self.numbers = torch.zeros((3, *shape), device=device)
        self.gain, self.push, self.pull = self.numbers  # views
        self.gain.fill_(1)
        self.one = torch.ones((), device=device)  # as a tensor it costs an operator less than as a number
        self.spans = torch.zeros((2, *shape), dtype=torch.long, device=device)
        self.vector, self.spread = self.spans  # views
        self.spread.fill_(1)
        self.changing, self.touched = (torch.zeros(shape, dtype=torch.int32, device=device) for _ in range(2))
        self.gate: Tensor | None = None
        self.draws: Tensor | None = None
        self._views: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def note(self, directed: bool) -> None:
        """Work out `changing` for all sites at once; a hook then adds its own to what it has touched."""
        torch.ne(self.gain, self.one, out=self.changing)
        if directed:
            self.changing |= (self.push != 0) | (self.pull != 0)

    def of(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Views of a point's sites: gain [places, sites, 1], changing and touched [sites, places]."""
        if rows.start not in self._views:
            self._views[rows.start] = self.gain[rows].T[..., None], self.changing[rows], self.touched[rows]
        return self._views[rows.start]


class Awake:
    """Which hooks act: those with a term in some slot. Terms are counted, so that a row that comes costs its own only.

    Attributes:
        used: points with a term; the others' hooks return at once.
        directed: points with a term that needs a vector.
        resampling: whether any term draws its vector.
    """

    def __init__(self, point_of: dict[str, str], terms: Iterable[Term] = ()):
        self.point_of = point_of
        self.counts: Counter[tuple[str, str]] = Counter()
        self.exchange((), terms)

    def exchange(self, old: Iterable[Term], new: Iterable[Term]) -> None:
        """A row's terms leave and another's come."""
        self.counts.subtract(need for term in old for need in self._needs(term))
        self.counts.update(need for term in new for need in self._needs(term))
        self.counts = +self.counts
        self.used = {point for what, point in self.counts if what == "used"}
        self.directed = {point for what, point in self.counts if what == "directed"}
        self.resampling = ("resampling", "") in self.counts

    def _needs(self, term: Term) -> Iterator[tuple[str, str]]:
        point = self.point_of[term.site]
        yield "used", point
        if term.operation in DIRECTED:
            yield "directed", point
        if term.operation == "resample":
            yield "resampling", ""
