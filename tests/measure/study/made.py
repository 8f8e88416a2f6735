"""Measurements made by hand, with numbers whose means a test can state."""

import pandas as pd
import pyarrow as pa

from raybt.store.schemas.study import LENSES, MEASUREMENTS, SCANS

MADE_WITH = {"seconds": 1.0, "replica": "r0", "numerics": "cpu"}


def plan(*rows: dict) -> pd.DataFrame:
    """`MEASUREMENTS` rows; each has at least a key and a problem."""
    usual = {"stage": "look", "role": "onset", "variant": "default", "sample": 0, "target": 7}
    full = [{**usual, "event": row["key"], "source": row["key"], **row} for row in rows]
    return pa.Table.from_pylist([{name: row.get(name) for name in MEASUREMENTS.names} for row in full]).to_pandas()


def lenses(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist([{**MADE_WITH, **row} for row in rows], LENSES)


def scans(*rows: dict) -> pa.Table:
    usual = {"target_log_probability": -1.0, "trigger_mass": 0.5, "words": []}
    floors = {"floor_target": 0.0, "floor_mass": 0.001, "floor_kl": 0.0}
    return pa.Table.from_pylist([{**MADE_WITH, **usual, **floors, **row} for row in rows], SCANS)


def effect(intervention: str, mass: float = 0.5, change: float = 0.0, **more) -> dict:
    """One effect; kl and kl_trigger are 0 and the likeliest token stays unless said otherwise."""
    usual = {"kl": 0.0, "kl_trigger": 0.0, "agrees": True, "words": []}
    return {**usual, "intervention": intervention, "target_change": change, "trigger_mass": mass, **more}


def row(table: pa.Table, **where) -> dict:
    """The one row of a table where these columns have these values."""
    (found,) = [row for row in table.to_pylist() if all(row[name] == value for name, value in where.items())]
    return found
