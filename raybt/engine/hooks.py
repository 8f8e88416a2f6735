"""Coefficients -> live hooks: an intervention is a column of numbers that permanent hooks read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, Point
from raybt.engine.bank import Bank
from raybt.engine.request import DIRECTED, Term


class Coefficients:
    """What each site does to each place (a slot, or a position of a prompt in prefill).

    Every operation is one formula, y = gain x + (push + pull (x.v)) v, so all of them mix in one batch. Numbers are
    fp32 whatever the model's type: a bf16 factor would be another factor.

    Attributes:
        gain, push, pull: [sites, places].
        vector: [sites, places] row of v in the bank.
        changing: [sites, places] 1 where gain, push and pull change an output; see `note`.
        touched: [sites, places] positions at which the hook changed the output.
    """

    def __init__(self, sites: int, places: int, device: torch.device):
        shape = (sites, places)
        self.numbers = torch.zeros((3, *shape), device=device)
        self.gain, self.push, self.pull = self.numbers  # views
        self.gain.fill_(1)
        self.one = torch.ones((), device=device)  # as a tensor it costs an operator less than as a number
        self.vector = torch.zeros(shape, dtype=torch.long, device=device)
        self.changing, self.touched = (torch.zeros(shape, dtype=torch.int32, device=device) for _ in range(2))
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


class Hooks:
    """One permanent hook per point; rows of different conditions sit side by side in a batch.

    Args:
        bank: the vectors that terms name.

    Attributes:
        wanted: coefficients of each slot's condition, whenever it is on.
        now: what the hooks apply at this step (nothing where the row's positions exclude it).
        spread: [sites, slots] bank rows that `resample` draws from; 1 for a fixed vector.
        live: what the hooks read: None off, `now` in decoding, a prompt's own in prefill.
    """

    def __init__(self, anatomy: Anatomy, slots: int, bank: Bank | None = None):
        self.bank = bank or Bank({}, anatomy.device)
        self.index = {site: row for row, site in enumerate(anatomy.sites)}
        self.device, sites = anatomy.device, len(self.index)
        self.wanted = Coefficients(sites, slots, self.device)
        self.now = Coefficients(sites, slots, self.device)
        self.spans = torch.zeros((2, sites, slots), dtype=torch.long, device=self.device)
        self.wanted.vector, self.spread = self.spans  # views
        self.spread.fill_(1)
        self.live: Coefficients | None = None
        self.rows = {point.name: self._rows_of(point) for point in anatomy.points}
        self.point_of = {site: point.name for point in anatomy.points for site in point.sites}
        self.terms: list[tuple[Term, ...]] = [()] * slots
        self.used: set[str] = set()  # points with a term in some slot; the others' hooks return at once
        self.directed: set[str] = set()  # points with a term that needs a vector
        self.resampling = False
        self._handles = [self._attach(point) for point in anatomy.points]

    def _rows_of(self, point: Point) -> slice:
        first = self.index[point.sites[0]]
        return slice(first, first + len(point.sites))

    def _attach(self, point: Point):
        if point.side == "input":
            return point.module.register_forward_pre_hook(lambda _module, inputs: self._on_input(point, inputs))
        return point.module.register_forward_hook(lambda _module, _inputs, output: self._on_output(point, output))

    def _on_input(self, point: Point, inputs: tuple):
        if self.live is None or point.name not in self.used:
            return None
        return (self._apply(point, inputs[0], self.live), *inputs[1:])

    def _on_output(self, point: Point, output):
        if self.live is None or point.name not in self.used:
            return None
        if isinstance(output, tuple):
            return (self._apply(point, output[0], self.live), *output[1:])
        return self._apply(point, output, self.live)

    def _apply(self, point: Point, x: Tensor, live: Coefficients) -> Tensor:
        """x: [slots, 1, width] in decoding, [1, positions, width] in prefill, or without the axis of length 1."""
        rows = self.rows[point.name]
        gain, changing, touched = live.of(rows)
        alone = point.heads == 1 and x.ndim == 3 and x.shape[1] == 1
        parts = x if alone else x.reshape(-1, point.heads, x.shape[-1] // point.heads)  # [places, heads, part]
        y = parts * gain.to(x.device)  # fp32, as the gain is
        if point.name in self.directed:
            push, pull = live.push[rows], live.pull[rows]  # [heads, places]
            v = self.bank.rows[live.vector[rows].T][..., : parts.shape[-1]].to(x.device)  # [places, heads, part]
            along = (parts.float() * v).sum(-1, keepdim=True)
            y = y + (push.T[..., None].to(x.device) + pull.T[..., None].to(x.device) * along) * v
        touched.add_(changing)
        return y.to(x.dtype).reshape(x.shape)  # else of the gain's strides, with which torch multiplies row by row

    def arm(self, gate: Tensor, draws: Tensor | None = None) -> None:
        """Set this step's coefficients.

        Args:
            gate: [slots] bool, true where the row's intervention is on now.
            draws: [slots] random integers for `resample`.
        """
        torch.where(gate, self.wanted.gain, self.now.one, out=self.now.gain)
        if self.directed:
            self.now.push.copy_(torch.where(gate, self.wanted.push, 0.0))
            self.now.pull.copy_(torch.where(gate, self.wanted.pull, 0.0))
            self.now.vector.copy_(self.wanted.vector)
        if self.resampling and draws is not None:
            self.now.vector += draws % self.spread
        self.now.note(bool(self.directed))

    @contextmanager
    def on(self) -> Iterator[None]:
        """The hooks act on slots within this block."""
        self.live = self.now
        try:
            yield
        finally:
            self.live = None

    @contextmanager
    def over_prompt(self, terms: Sequence[Term], positions: int, draws: Tensor) -> Iterator[Coefficients]:
        """The hooks act on every position of one prompt within this block. draws: [positions]."""
        live = Coefficients(len(self.index), positions, self.device)
        for term in terms:
            row = self.index[term.site]
            gain, push, pull, vector, spread = self.coefficients(term)
            live.gain[row], live.push[row], live.pull[row] = gain, push, pull
            live.vector[row] = vector + (draws % spread if spread > 1 else 0)
        live.note(directed=True)
        kept = self.used, self.directed, self.resampling
        self._use(terms)
        self.live = live
        try:
            yield live
        finally:
            self.live = None
            self.used, self.directed, self.resampling = kept

    def coefficients(self, term: Term) -> tuple[float, float, float, int, int]:
        """(gain, push, pull, first bank row, bank rows) of a term."""
        s = float(term.strength)
        if term.operation in ("scale", "zero"):
            return (s if term.operation == "scale" else 0.0), 0.0, 0.0, 0, 1
        vector, count, norm = self.bank.find(term.vector)
        gain, push, pull = {
            "mean": (1 - s, s, 0.0),
            "resample": (1 - s, s, 0.0),
            "add": (1.0, s, 0.0),
            "project_out": (1.0, 0.0, -s / norm**2),
            "clamp": (1.0, s / norm, -1 / norm**2),
        }[term.operation]
        return gain, push, pull, vector, count if term.operation == "resample" else 1

    def _use(self, terms: Sequence[Term]) -> None:
        """Wake the hooks that these terms need."""
        directed = {self.point_of[term.site] for term in terms if term.operation in DIRECTED}
        self.used = {self.point_of[term.site] for term in terms}
        self.directed = directed
        self.resampling = any(term.operation == "resample" for term in terms)

    def _wake(self, slot: int, terms: tuple[Term, ...]) -> None:
        """On a GPU hooks once woken stay awake: a captured step holds those that were awake."""
        before = (self.used, self.directed, self.resampling)
        self.terms[slot] = terms
        self._use([term for row in self.terms for term in row])
        if self.device.type == "cuda":
            self.used, self.directed, self.resampling = (
                self.used | before[0],
                self.directed | before[1],
                self.resampling or before[2],
            )

    def assign(self, slot: int, terms: Sequence[Term], touched: Tensor | None = None) -> None:
        """Give a slot its row's coefficients, and the counts that its prefill left ([sites]; None: none)."""
        sites = len(self.index)
        gain, push, pull, vector, spread = [1.0] * sites, [0.0] * sites, [0.0] * sites, [0] * sites, [1] * sites
        for term in terms:
            row = self.index[term.site]
            gain[row], push[row], pull[row], vector[row], spread[row] = self.coefficients(term)
        self._wake(slot, tuple(terms))
        self.wanted.numbers[:, :, slot] = torch.tensor([gain, push, pull]).to(self.device)
        self.spans[:, :, slot] = torch.tensor([vector, spread]).to(self.device)
        self.now.touched[:, slot] = 0 if touched is None else touched

    def assign_all(self, interventions: Sequence[Sequence[Term]]) -> None:
        """Give every slot its row's coefficients at once."""
        self.terms = [tuple(terms) for terms in interventions]
        self._use([term for row in self.terms for term in row])
        entries = [
            (self.index[term.site], slot, self.coefficients(term))
            for slot, terms in enumerate(self.terms)
            for term in terms
        ]
        if not entries:
            return
        where = torch.tensor([(row, slot) for row, slot, _ in entries]).T.to(self.device).unbind()
        numbers = torch.tensor([values for _, _, values in entries], dtype=torch.float64).T.to(self.device)
        for table, column in zip((self.wanted.gain, self.wanted.push, self.wanted.pull), numbers, strict=False):
            table[where] = column.to(table.dtype)
        self.wanted.vector[where], self.spread[where] = numbers[3].long(), numbers[4].long()

    def receipts(self, slots: list[int]) -> list[dict[str, int]]:
        """Per slot: site -> positions at which the hook changed its output, sites never changed left out."""
        if not slots:
            return []
        counts = self.now.touched[:, slots].T.tolist()  # [slots][sites]
        return [{site: column[row] for site, row in self.index.items() if column[row]} for column in counts]

    def remove(self) -> None:
        """Take every hook off the model."""
        while self._handles:
            self._handles.pop().remove()
