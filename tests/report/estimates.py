"""Tables by their schemas, and estimates with their intervals."""

import pyarrow as pa


def table(rows, schema):
    """A frame as the store hands it over: the schema's columns and types, nulls as pandas shows them."""
    rows = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(rows, schema=schema).to_pandas()


def around(stem, value, reach):
    """An estimate with its interval."""
    return {stem: value, f"{stem}_low": value - reach, f"{stem}_high": value + reach}


def share(stem, value, reach=0.05):
    return {stem: value, f"{stem}_low": max(0.0, value - reach), f"{stem}_high": min(1.0, value + reach)}
