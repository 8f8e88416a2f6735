"""How plans, states and outcomes look on a terminal."""

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from raybt.store.folder import RunFolder
from raybt.store.manifest import MANIFEST
from raybt.store.schemas import PLAN
from raybt.store.schemas.study import MEASUREMENTS
from raybt.store.shards import done

if TYPE_CHECKING:
    from raybt.fleet.driver import Outcome
    from raybt.plan.rows import Plan


def outcome(console: Console, outcome: "Outcome") -> None:
    """How the run ended and where its report is; what stopped it is the caller's to say last."""
    console.print(
        f"{outcome.done:,} of {outcome.planned:,} rows done, {outcome.failed:,} failed, {outcome.missing:,} missing"
    )
    for note in outcome.notes:
        console.print(f"note: {note}", markup=False)
    for name in outcome.named:
        console.print(f"missing: {name}", markup=False)
    for waits in outcome.waiting:
        console.print(f"not run: {waits}", markup=False)
    if outcome.reported:
        console.print(f"report: {outcome.root}/report.html")
    else:
        console.print("no row is done, so there is nothing to report")


def plan(console: Console, plan: "Plan", folder: RunFolder) -> None:
    """What a config asks for, how much of it is done, and what is not known before an earlier stage ends."""
    keys = set(plan.work["key"].to_pylist())
    there = keys & done(folder).keys
    missing = plan.missing(there)
    lengths = plan.prompt_lengths
    most = int(sum(count or 0 for count in missing["max_new_tokens"].to_pylist()))
    facts = {
        "model": f"{plan.config.model.name} ({plan.facts.n_layers} layers, {plan.facts.fingerprint})",
        "conditions": f"{plan.conditions.num_rows:,} in {len(plan.layout.stages):,} stages",
        "prompts": f"{len(lengths):,}, {lengths.min()} to {lengths.max()} tokens",
        "rows planned": f"{plan.rows.num_rows + plan.measurements.num_rows:,}, of which {len(keys):,} unique",
        "rows done": f"{len(there):,}",
        "rows missing": f"{missing.num_rows:,}",
        "tokens missing": f"at most {most:,}",
        "run folder": folder.root,
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"{name:<{width}}  {value}", markup=False)
    if plan.config.stages or plan.layout.waiting:
        console.print(_stages(plan, there))


def _stages(plan: "Plan", there: set[str]) -> Table:
    """Each stage with its unique rows, or what it waits for."""
    keys: dict[str, set[str]] = {stage: set() for stage in (*plan.layout.stages, *plan.config.stages)}
    for table in (plan.rows, plan.measurements):
        for stage, key in zip(table["stage"].to_pylist(), table["key"].to_pylist(), strict=True):
            keys[stage].add(key)
    shown = Table("stage", "done", "missing", "not yet known", box=None)
    for stage, named in keys.items():
        waits = plan.layout.waiting.get(stage, "" if named else _not_known(plan, stage))
        if named or waits:
            shown.add_row(stage, f"{len(named & there):,}", f"{len(named - there):,}", waits and f"waits for {waits}")
    return shown


def _not_known(plan: "Plan", stage: str) -> str:
    return "" if plan.config.stages[stage].kind == "search" else "the baseline's onsets"


def status(console: Console, folder: RunFolder) -> None:
    """Planned, done, failed and missing rows of each condition, and of each stage's measurements."""
    rows = folder.read_table("plan.parquet", PLAN)
    found = done(folder)
    manifest = folder.read_json(MANIFEST)
    planned = [*_families(rows, "variant"), *_families(_measurements(folder), "kind")]
    state = Counter((*family, _state(key, found.keys, set(found.failed))) for *family, key in planned)
    table = Table(title=f"{manifest['name']}: attempts: {len(manifest['attempts'])}", title_justify="left")
    for name in ("stage", "condition", "variant"):
        table.add_column(name, overflow="fold")
    for name in ("planned", "done", "failed", "missing"):
        table.add_column(name, justify="right")
    for family in dict.fromkeys(key[:3] for key in state):
        counts = [state[(*family, name)] for name in ("done", "failed", "missing")]
        table.add_row(*(name or "" for name in family), *(f"{count:,}" for count in [sum(counts), *counts]))
    console.print(table)


def _measurements(folder: RunFolder) -> pa.Table:
    there = folder.exists("measurements.parquet")
    return folder.read_table("measurements.parquet", MEASUREMENTS) if there else MEASUREMENTS.empty_table()


def _families(rows: pa.Table, what: str):
    """(stage, condition, variant or kind, key) of each row."""
    columns = ("stage", "condition", what, "key")
    return zip(*(rows[name].to_pylist() for name in columns), strict=True)


def _state(key: str, there: set[str], failed: set[str]) -> str:
    return "done" if key in there else "failed" if key in failed else "missing"


def vectors(console: Console, table: pa.Table) -> None:
    """Which vectors there are now, and how long they are."""
    shown = Table("vectors", "site", "kind", "rows", "norm", "hash", box=None)
    for row in table.to_pylist():
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(shown)
