"""Two runs of one config in two precisions, side by side."""

import statistics
from collections.abc import Sequence

import pandas as pd
import pyarrow.parquet as pq
from ran import Ran, stages
from rich.console import Console
from rich.table import Table

console = Console(width=120, highlight=False)
SHOWN = 8  # sites of a scan


def show_rows(both: Sequence[Ran]) -> list[str]:
    """Rows of each stage; gives the stages that have none in a run."""
    counts = [ran.rows() for ran in both]
    table = _table("rows done, by stage", ["stage"], both)
    for stage in stages(both[0].config):
        table.add_row(stage, *(f"{rows[stage]:,}" for rows in counts))
    console.print(table)
    return [f"{ran.config.name}: {s}" for ran, rows in zip(both, counts, strict=True) for s in rows if not rows[s]]


def show_conditions(both: Sequence[Ran]) -> None:
    """Onset rate and accuracy over all; controls and directions as the mean of theirs."""
    told = [_conditions(_read(ran, "conditions")) for ran in both]
    table = _table("onset rate, accuracy over all", ["stage", "condition"], both)
    for where in list(dict.fromkeys(key for one in told for key in one)):
        table.add_row(*where, *(one.get(where, "not run") for one in told))
    console.print(table)


def _conditions(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(stage, condition, or the role of several) -> what is told of it."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in rows.to_dict("records"):
        alone = pd.isna(row["control_of"])
        name = row["condition"] if alone else f"{row['role']}s of {row['control_of']}"
        found.setdefault((row["stage"], name), []).append(row)
    return {where: _told(together) for where, together in found.items()}


def _told(rows: list[dict]) -> str:
    onsets, accuracy = (statistics.mean(row[rate] for row in rows) for rate in ("onset_rate", "accuracy_all"))
    collapsed = sum(row["collapsed"] for row in rows)
    note = f"  {collapsed} of {len(rows)} collapsed" if len(rows) > 1 else "  collapsed"
    return f"{onsets:6.1%} {accuracy:6.1%}" + note * bool(collapsed)


def show_scans(both: Sequence[Ran]) -> None:
    """What the scans chose, and how far the effects of all sites are apart."""
    for name, stage in both[0].config.stages.items():
        if stage.kind == "scan":
            _show_scan(both, name)
    for ran in both:
        decided = pq.read_table(ran.root / "decisions.parquet").to_pylist()
        for row in decided:
            if row["name"].startswith("sites:"):
                console.print(f"{ran.config.name} {row['name']} {row['value']}: {row['reason']}")
    console.print()


def _show_scan(both: Sequence[Ran], name: str) -> None:
    tables = [_read(ran, "scan") for ran in both]
    one, other = (t.loc[t["stage"] == name].set_index("site").sort_index() for t in tables)
    changes = pd.DataFrame({"one": one["trigger_change"], "other": other["trigger_change"]})
    apart = 100 * (changes["one"] - changes["other"]).abs()  # percentage points
    largest = changes.abs().max(axis=1).sort_values(ascending=False).index[:SHOWN]
    table = _table(f"{name}: change of trigger mass, points, and verdict; the {SHOWN} largest", ["site"], both)
    for site in largest:
        cells = (f"{100 * t.at[site, 'trigger_change']:+7.2f}  {t.at[site, 'verdict']}" for t in (one, other))
        table.add_row(site, *cells)
    console.print(table)
    floors = " and ".join(f"{t['floor'].max():.1e}" for t in (one, other))
    alike, correlation = (one["verdict"] == other["verdict"]).mean(), changes["one"].corr(changes["other"])
    console.print(
        f"of {len(apart)} sites the change differs by {apart.median():.2f} points in the median and {apart.max():.2f} "
        f"at most (at {apart.idxmax()}), correlation {correlation:.3f}; {alike:.0%} have the same verdict; noise "
        f"floors {floors}. Events come from each run's own completions\n"
    )


def show_greedy(written: Sequence[Ran]) -> None:
    """Where greedy completions of one prompt part."""
    one, other = (_tokens(ran) for ran in written)
    assert one.keys() == other.keys(), "the same problems"
    pairs = [(one[where], other[where]) for where in one]
    first = [parts_at(*pair) for pair in pairs]
    parted = [at for at in first if at is not None]
    together = sum(min(map(len, pair)) if at is None else at + 1 for pair, at in zip(pairs, first, strict=True))
    places = sum(max(map(len, pair)) for pair in pairs)
    differ = places - sum(a == b for pair in pairs for a, b in zip(*pair, strict=False))
    median = f", after {statistics.median(parted):.0f} tokens in the median" if parted else ""
    console.print(
        f"greedy: {len(parted)} of {len(pairs)} completions part{median}; while the text before is the same, "
        f"{len(parted)} of {together} tokens differ ({len(parted) / together:.2%}); place by place "
        f"{differ / places:.1%} of {places} do\n"
    )


def parts_at(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Index of the first token at which two completions differ; None where they are the same."""
    if list(one) == list(other):
        return None
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def show_speed(runs: Sequence[Ran]) -> None:
    table = Table(
        "run", "tokens/s", "s to load", "s to prove", "s to first token", "seconds", "memory, GiB", title="speed"
    )
    for ran in runs:
        starts = [f"{ran.starts[f'{what}_seconds']:.1f}" if f"{what}_seconds" in ran.starts else ""
                  for what in ("load", "prove", "first_token")]  # fmt: skip
        memory = ", ".join(f"{who} {held / 2**30:.1f}" for who, held in ran.memory.items() if who != "other")
        table.add_row(ran.config.name, f"{ran.tokens_per_second:.1f}", *starts, f"{ran.seconds:.0f}", memory)
    console.print(table)


def _tokens(ran: Ran) -> dict[str, list[int]]:
    """Problem -> what was written, of a run with one row a problem."""
    plan = pq.read_table(ran.root / "plan.parquet").to_pylist()
    written = {row["key"]: row["token_ids"] for row in pq.read_table(ran.root / "completions").to_pylist()}
    return {row["problem"]: written[row["key"]] for row in plan}


def _read(ran: Ran, table: str) -> pd.DataFrame:
    return pq.read_table(ran.root / "tables" / f"{table}.parquet").to_pandas()


def _table(title: str, columns: list[str], both: Sequence[Ran]) -> Table:
    return Table(*columns, *(ran.config.model.dtype for ran in both), title=title, title_justify="left")
