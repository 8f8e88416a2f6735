"""Whole studies: conditions with their controls, sweeps over sites, what a search ran, and every table beside them."""

from dataclasses import replace

from tests.report import study_tables
from tests.report.conditions import CONFIG, build, condition, sweep
from tests.report.search_rows import GOAL


def controls_of(target, role, count=20, **more):
    """Random controls of a condition that do next to nothing; the third has collapsed."""
    return [
        condition(
            f"{target['subset']}.{role}{number:02d}@0",
            0.40 + 0.005 * number,
            0.84 + 0.002 * number,
            stage=target["stage"],
            variant=target["variant"],
            subset=f"{target['subset']}.{role}{number:02d}",
            scale=0.0,
            finding="control",
            because="accuracy at chance" if number == 3 else None,
            role=role,
            control_of=target["condition"],
            **more,
        )
        for number in range(1, count + 1)
    ]


def layered(layers=6, stage="layers", **more):
    """Each layer's attention and MLP alone: one matters, one breaks the model."""
    rows = [condition("baseline", 0.43, 0.86, stage=stage, **more)]
    for layer in range(layers):
        for kind in ("attn", "mlp"):
            name, broken = f"layers.{kind}.{layer}", (kind, layer) == ("attn", 0)
            onset, accuracy = (0.02, 0.03) if broken else (0.1, 0.85) if (kind, layer) == ("mlp", 3) else (0.42, 0.86)
            because = "accuracy at chance" if broken else None
            rows.append(
                condition(
                    f"{name}@0", onset, accuracy, stage=stage, subset=name, scale=0.0, n_sites=1,
                    finding="no evidence", because=because, **more,
                )
            )  # fmt: skip
    return rows


def topped(count=4, stage="best"):
    return [condition("baseline", 0.43, 0.86, stage=stage)] + [
        condition(
            f"best.top{n}@0", 0.43 - 0.06 * n, 0.86 - 0.01 * n, stage=stage, subset=f"best.top{n}", scale=0.0,
            n_sites=n, finding="no evidence",
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def searching():
    """What a search ran: stages of its own in the conditions table."""
    return [
        row
        for stage in ("search.rung1", "search.rung2", "search.rung3", "search.confirm")
        for row in (
            condition("baseline", 0.43, 0.86, stage=stage),
            condition("late@0", 0.13, 0.84, stage=stage, subset="late", scale=0.0, finding="lowers"),
        )
    ]


def studied_rows():
    rows = sweep()
    late = rows[1]
    controls = [*controls_of(late, "control"), *controls_of(late, "direction")]
    return [*rows, *controls, *layered(), *topped(), *searching()]


def build_study(conditions=None, confirmed=True, **instead):
    """A whole study; `instead` gives the rows of one of its tables, or None to leave it out."""
    config = CONFIG | {"stages": GOAL}
    base = build(studied_rows() if conditions is None else conditions, config=config)
    return replace(base, study=study_tables.study(**instead), decisions=study_tables.decided(confirmed=confirmed))
