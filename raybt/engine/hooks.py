"""Coefficients -> live hooks: an intervention is a column of numbers that permanent hooks read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, Point
from raybt.engine.bank import Bank
from raybt.engine.coefficients import Awake, Coefficients
from raybt.engine.request import Term


class Hooks:
    """One permanent hook per point; rows of different conditions sit side by side in a batch.

    Args:
        bank: the vectors that terms name.
        kernel: apply a point's coefficients by one kernel, which reads `wanted` and the gate itself.

    Attributes:
        banks: how many banks there have been, so that no graph reads the vectors of another.
        wanted: coefficients of each slot's condition, whenever it is on.
        now: what the hooks apply at this step (nothing where the row's positions exclude it); for a kernel `wanted`.
        live: what the hooks read: None off, `now` in decoding, a prompt's own in prefill.
    """

    def __init__(self, anatomy: Anatomy, slots: int, bank: Bank | None = None, kernel: bool = False):
        self.bank = (bank or Bank({})).on(anatomy.device)
        self.index = {site: row for row, site in enumerate(anatomy.sites)}
        self.device, sites = anatomy.device, len(self.index)
        self.kernel, self.banks = kernel, 1
        self.wanted = Coefficients(sites, slots, self.device)
        self.now = self.wanted if kernel else Coefficients(sites, slots, self.device)
        self.live: Coefficients | None = None
        self.rows = {point.name: self._rows_of(point) for point in anatomy.points}
        self.point_of = {site: point.name for point in anatomy.points for site in point.sites}
        self.terms: list[tuple[Term, ...]] = [()] * slots
        self.awake = Awake(self.point_of)
        self._handles = [self._attach(point) for point in anatomy.points]

    def _rows_of(self, point: Point) -> slice:
        first = self.index[point.sites[0]]
        return slice(first, first + len(point.sites))

    def _attach(self, point: Point):
        if point.side == "input":
            return point.module.register_forward_pre_hook(lambda _module, inputs: self._on_input(point, inputs))
        return point.module.register_forward_hook(lambda _module, _inputs, output: self._on_output(point, output))

    def _on_input(self, point: Point, inputs: tuple):
        if self.live is None or point.name not in self.awake.used:
            return None
        return (self._apply(point, inputs[0], self.live), *inputs[1:])

    def _on_output(self, point: Point, output):
        if self.live is None or point.name not in self.awake.used:
            return None
        if isinstance(output, tuple):
            return (self._apply(point, output[0], self.live), *output[1:])
        return self._apply(point, output, self.live)

    def _apply(self, point: Point, x: Tensor, live: Coefficients) -> Tensor:
        """x: [slots, 1, width] in decoding, [1, positions, width] in prefill, or without the axis of length 1."""
        rows, directed = self.rows[point.name], point.name in self.awake.directed
        if self.kernel:
            return self._by_kernel(point, x, live, rows, directed)
        gain, changing, touched = live.of(rows)
        alone = point.heads == 1 and x.ndim == 3 and x.shape[1] == 1
        parts = x if alone else x.reshape(-1, point.heads, x.shape[-1] // point.heads)  # [places, heads, part]
        y = parts * gain.to(x.device)  # fp32, as the gain is
        if directed:
            push, pull = live.push[rows], live.pull[rows]  # [heads, places]
            v = self.bank.rows[live.vector[rows].T][..., : parts.shape[-1]].to(x.device)  # [places, heads, part]
            along = (parts.float() * v).sum(-1, keepdim=True)
            y = y + (push.T[..., None].to(x.device) + pull.T[..., None].to(x.device) * along) * v
        touched.add_(changing)
        return y.to(x.dtype).reshape(x.shape)  # else of the gain's strides, with which torch multiplies row by row

    def _by_kernel(self, point: Point, x: Tensor, live: Coefficients, rows: slice, directed: bool) -> Tensor:
        from raybt.engine.kernels.act import act

        gain, push, pull, vector, spread = (
            table[rows] for table in (live.gain, live.push, live.pull, live.vector, live.spread)
        )
        flat, bank, touched = x.reshape(-1, x.shape[-1]), self.bank.rows, live.touched[rows]
        y = act(flat, gain, push, pull, vector, spread, live.draws, live.gate, bank, touched, point.heads, directed)
        return y.reshape(x.shape)

    def arm(self, gate: Tensor, draws: Tensor | None = None) -> None:
        """Set this step's coefficients.

        Args:
            gate: [slots] bool, true where the row's intervention is on now.
            draws: [slots] random integers for `resample`.
        """
        if self.kernel:
            self.now.gate, self.now.draws = gate, draws
            return
        torch.where(gate, self.wanted.gain, self.now.one, out=self.now.gain)
        if self.awake.directed:
            self.now.push.copy_(torch.where(gate, self.wanted.push, 0.0))
            self.now.pull.copy_(torch.where(gate, self.wanted.pull, 0.0))
            self.now.vector.copy_(self.wanted.vector)
        if self.awake.resampling and draws is not None:
            self.now.vector += draws % self.wanted.spread
        self.now.note(bool(self.awake.directed))

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
        kept, self.awake = self.awake, Awake(self.point_of, terms)
        self.live = live
        try:
            yield live
        finally:
            self.live, self.awake = None, kept

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

    def wake(self, slot: int, terms: tuple[Term, ...]) -> None:
        """On a GPU a hook once woken stays awake: a captured step holds those that were awake, and would have to be
        captured again whenever one falls asleep."""
        if terms != self.terms[slot]:
            self.awake.exchange(() if self.device.type == "cuda" else self.terms[slot], terms)
            self.terms[slot] = terms

    def columns(self, interventions: Sequence[Sequence[Term]]) -> tuple[Tensor, Tensor]:
        """Coefficients of rows, on the host: numbers [3, sites, rows] and spans [2, sites, rows]."""
        sites, rows = len(self.index), len(interventions)
        numbers, spans = np.zeros((3, sites, rows), np.float32), np.zeros((2, sites, rows), np.int64)
        numbers[0], spans[1] = 1, 1
        for column, terms in enumerate(interventions):
            for term in terms:
                row = self.index[term.site]
                gain, push, pull, vector, spread = self.coefficients(term)
                numbers[:, row, column], spans[:, row, column] = (gain, push, pull), (vector, spread)
        return torch.from_numpy(numbers), torch.from_numpy(spans)

    def assign(self, where: Tensor, columns: tuple[Tensor, Tensor], touched: Sequence[Tensor | None]) -> None:
        """Give slots their rows' coefficients, and the counts that their prefills left.

        Args:
            where: [rows] the slots, on the device.
            columns: as `columns` gave them, on the device.
            touched: for each slot [sites], or None for none.
        """
        self.wanted.numbers.index_copy_(2, where, columns[0])
        self.wanted.spans.index_copy_(2, where, columns[1])
        self.now.touched.index_fill_(1, where, 0)
        if any(counts is not None for counts in touched):
            none = torch.zeros(len(self.index), dtype=torch.int32, device=self.device)
            counted = torch.stack([none if counts is None else counts for counts in touched], dim=1)
            self.now.touched.index_copy_(1, where, counted)

    def assign_all(self, interventions: Sequence[Sequence[Term]]) -> None:
        """Give every slot its row's coefficients at once."""
        self.terms = [tuple(terms) for terms in interventions]
        self.awake = Awake(self.point_of, (term for row in self.terms for term in row))
        for table, column in zip((self.wanted.numbers, self.wanted.spans), self.columns(interventions), strict=True):
            table.copy_(column)

    def receipts(self, counts: Tensor) -> list[dict[str, int]]:
        """Per slot: site -> positions at which the hook changed its output, sites never changed left out.

        Args:
            counts: [sites, slots] those slots' `touched`, on the host.
        """
        changed = [(column, row, int(counts[row, column])) for column, row in counts.T.nonzero().tolist()]
        found: list[dict[str, int]] = [{} for _ in range(counts.shape[1])]
        sites = list(self.index)
        for column, row, count in changed:
            found[column][sites[row]] = count
        return found

    def adopt(self, bank: Bank) -> None:
        """Take another bank, where no slot holds a row; every hook falls asleep."""
        self.bank, self.banks = bank.on(self.device), self.banks + 1
        self.terms = [()] * len(self.terms)
        self.awake = Awake(self.point_of)

    def remove(self) -> None:
        """Take every hook off the model."""
        while self._handles:
            self._handles.pop().remove()
