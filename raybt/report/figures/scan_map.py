"""The scan as maps: what changing one site at the position before an onset does to the next token."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from raybt.report.figures.drawing import Drawing
from raybt.report.figures.style import INK, MUTED, PAPER, WIDTH
from raybt.report.results import Results, TableRow, study_groups
from raybt.report.scanned import BREAKS, QUALIFIES, UNDER_FLOOR
from raybt.report.wording import MINUS, decimals, is_missing, number, plain

COLUMNS = [
    "stage", "site", "kind", "layer", "head", "operation", "planned", "done", "failed", "controls", "problems",
    *[f"{stem}{part}" for stem in ("specific", "trigger_change") for part in ("", "_low", "_high")],
    "control_agreement", "floor", "verdict",
]  # fmt: skip
EFFECTS = {"specific": "Specific effect, nats", "trigger_change": "Change of trigger mass"}
MAP = colormaps["PuOr_r"]  # violet below zero, orange above; light in the middle
CELL_INCHES, LEAST_CELL = 0.21, 0.155
NARROWEST_WITH_NUMBERS = 0.3  # inches; narrower cells hold only a mark

HOW = (
    "Each cell is one site, changed at the one position before an onset: zeroed (`zero`), or set to its own mean "
    "(`mean`). The specific effect is the nats by which backtracking words lose probability, less the nats by which "
    "all else moves: above zero (orange) the change takes the backtracking words and little else, below zero "
    "(violet) it moves other things more. The change of trigger mass is the difference in the probability of all "
    "backtracking words together. A thick frame marks a site that qualifies; hatching one whose removal breaks the "
    "model, that is, changes what it writes next at most positions that have nothing to do with backtracking: its cell "
    "has no colour, since an effect on a broken model is no effect. A dot marks a site whose effect is under the "
    "noise floor of the arithmetic. "
)
CAPTION = HOW + ("Numbers are the values. The scan table has intervals and tests.")
HEADS_CAPTION = HOW + (
    "Here a site is one attention head and colour is the specific effect; where cells are too narrow for numbers a "
    "plus or minus gives the sign of the larger effects. Every value is in the CSV beside the figure."
)


@dataclass(frozen=True)
class Grid:
    """Cells of one panel by (row, column)."""

    title: str
    columns: list[str]
    cells: dict[tuple[int, int], TableRow]
    effect: str
    norm: Normalize


def draw(results: Results) -> list[Drawing]:
    found = []
    for (stage,), rows in study_groups(results, "scan", "stage"):
        whole = [row for row in rows if row["kind"] != "head" and not is_missing(row["layer"])]
        heads = [row for row in rows if row["kind"] == "head"]
        found += [_components(results, stage, whole)] if whole else []
        found += [_heads(results, stage, heads)] if heads else []
    return found


def _components(results: Results, stage: str, rows: list[TableRow]) -> Drawing:
    columns = [(kind, name) for kind in _once(rows, "kind") for name in _once(rows, "operation")]
    places = {(int(row["layer"]), columns.index((row["kind"], row["operation"]))): row for row in rows}
    names = [f"{kind}\n{operation}" for kind, operation in columns]
    grids = [Grid(title, names, places, effect, _norm(rows, effect)) for effect, title in EFFECTS.items()]
    return Drawing(
        name=f"scan_{stage}",
        title=f"What each layer's attention and MLP do to the onset, stage {plain(stage)}",
        caption=CAPTION,
        alt=_alt(stage, rows, "layer and component"),
        figure=_figure(grids, "Layer"),
        data=_data(results, stage, heads=False),
    )


def _heads(results: Results, stage: str, rows: list[TableRow]) -> Drawing:
    norm = _norm(rows, "specific")  # one scale for both panels
    names = [str(head) for head in range(int(max(row["head"] for row in rows)) + 1)]
    grids = [
        Grid(f"{EFFECTS['specific']} · {operation}", names, _by_head(rows, operation), "specific", norm)
        for operation in _once(rows, "operation")
    ]
    return Drawing(
        name=f"heads_{stage}",
        title=f"What each attention head does to the onset, stage {plain(stage)}",
        caption=HEADS_CAPTION,
        alt=_alt(stage, rows, "layer and head"),
        figure=_figure(grids, "Layer", "Head"),
        data=_data(results, stage, heads=True),
    )


def _once(rows: list[TableRow], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _by_head(rows: list[TableRow], operation: str) -> dict[tuple[int, int], TableRow]:
    return {(int(row["layer"]), int(row["head"])): row for row in rows if row["operation"] == operation}


def _data(results: Results, stage: str, heads: bool):
    table = results.study["scan"]
    return table.loc[(table["stage"] == stage) & ((table["kind"] == "head") == heads), COLUMNS]


def _alt(stage: str, rows: list[TableRow], axes: str) -> str:
    qualify = [f"{row['site']} ({row['operation']})" for row in rows if row["verdict"] == QUALIFIES]
    found = f"Qualifying: {', '.join(qualify[:8])}" if qualify else "No site qualifies"
    return plain(f"Heat map of the scan's effects by {axes}, stage {stage}. {found}. Every value is in the scan table.")


def _figure(grids: list[Grid], down: str, across: str = "") -> Figure:
    n_rows = 1 + max(layer for grid in grids for layer, _ in grid.cells)
    cell = max(LEAST_CELL, min(CELL_INCHES, 9 / n_rows))
    figure = Figure(figsize=(WIDTH, max(2.6, cell * n_rows + 1.45)), layout="constrained")
    panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    for grid, axes in zip(grids, panels, strict=True):
        _panel(axes, grid, n_rows, WIDTH / (len(grids) * (len(grid.columns) + 1.5)))
        axes.set_xlabel(across)
        scale = ScalarMappable(grid.norm, MAP)
        figure.colorbar(scale, ax=axes, location="bottom", fraction=0.05, pad=0.02, aspect=32)
    panels[0].set_ylabel(down)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3)
    return figure


def _norm(rows: list[TableRow], effect: str) -> Normalize:
    """Symmetric about zero, its reach the largest effect on a model that still works."""
    reach = max((abs(row[effect]) for row in rows if _is_sound(row, effect)), default=0.0) or 1.0
    return Normalize(-reach, reach)


def _is_sound(row: TableRow, effect: str) -> bool:
    return row["verdict"] != BREAKS and not is_missing(row[effect])


def _panel(axes: Axes, grid: Grid, n_rows: int, width: float) -> None:
    values = np.full((n_rows, len(grid.columns)), np.nan)
    for place, row in grid.cells.items():
        values[place] = row[grid.effect] if _is_sound(row, grid.effect) else np.nan
    axes.pcolormesh(np.ma.masked_invalid(values), cmap=MAP, norm=grid.norm, edgecolors=PAPER, lw=0.8)
    for (down, across), row in grid.cells.items():
        _frame(axes, across, down, row["verdict"])
        _write(axes, across + 0.5, down + 0.5, row, grid, width)
    axes.set_title(grid.title)
    axes.set_ylim(n_rows, 0)
    step = 1 if n_rows <= 40 else 2
    axes.set_yticks([place + 0.5 for place in range(0, n_rows, step)], [str(i) for i in range(0, n_rows, step)])
    axes.set_xticks([place + 0.5 for place in range(len(grid.columns))], grid.columns)
    axes.tick_params(length=0, labelsize=7.5)
    axes.spines[:].set_visible(False)


def _frame(axes: Axes, x: int, y: int, verdict: str) -> None:
    if verdict == BREAKS:
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=MUTED, hatch="/////", lw=0, zorder=3))
    if verdict == QUALIFIES:
        axes.add_patch(Rectangle((x + 0.03, y + 0.05), 0.94, 0.9, fill=False, edgecolor=INK, lw=1.8, zorder=5))


def _write(axes: Axes, x: float, y: float, row: TableRow, grid: Grid, width: float) -> None:
    label = _label(row, grid, width)
    if not label:
        return
    broken = row["verdict"] == BREAKS
    box = {"boxstyle": "square,pad=0.12", "fc": PAPER, "ec": "none"} if broken else None
    color = MUTED if broken else _ink(row[grid.effect], grid.norm)
    axes.text(x, y, label, ha="center", va="center", fontsize=6, zorder=6, bbox=box, color=color)


def _label(row: TableRow, grid: Grid, width: float) -> str:
    """The value where it has room, else the sign of what is not small."""
    if is_missing(row[grid.effect]):
        return ""
    if row["verdict"] == UNDER_FLOOR:
        return "·"
    value, reach = row[grid.effect], float(grid.norm.vmax or 1.0)
    if width >= NARROWEST_WITH_NUMBERS:
        return number(value, decimals(reach), sign="+")
    return "" if abs(value) < reach / 4 or not _is_sound(row, grid.effect) else "+" if value > 0 else MINUS


def _ink(value: float, norm: Normalize) -> str:
    """White on the dark ends of the map."""
    red, green, blue, _ = MAP(norm(value))
    return PAPER if 0.3 * red + 0.59 * green + 0.11 * blue < 0.45 else INK


def _legend() -> list[Patch | Line2D]:
    return [
        Patch(fill=False, edgecolor=INK, lw=1.8, label="qualifies"),
        Patch(facecolor=PAPER, edgecolor=MUTED, hatch="/////", lw=0, label="breaks the model"),
        Line2D([], [], color=INK, marker=".", ms=4, ls="none", label="under the noise floor"),
    ]
