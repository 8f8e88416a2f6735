"""A drawn figure with what belongs to it: caption, description and the data behind it."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from raybt.report.figures.style import house_style


@dataclass(frozen=True)
class Drawing:
    """`name` is the stem of its files; `data` holds the rows drawn, as they stand in the tables.

    `caption` says how to read a figure of this kind, `note` what is particular to this one.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: pd.DataFrame
    note: str = ""

    def png(self) -> bytes:
        return self._saved("png", {"Software": None})

    def svg(self) -> bytes:
        return self._saved("svg", {"Date": None, "Creator": None})

    def csv(self) -> bytes:
        return self.data.to_csv(index=False, lineterminator="\n").encode()

    def _saved(self, kind: str, metadata: dict[str, Any]) -> bytes:
        target = BytesIO()
        with house_style():
            self._lay_out()
            self.figure.savefig(target, format=kind, metadata=metadata)
        return target.getvalue()

    def _lay_out(self) -> None:
        """Once: matplotlib would do it twice for each format, and it takes as long as drawing."""
        if self.figure.get_layout_engine():
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine(None)
