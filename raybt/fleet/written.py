"""What a replica commits, as tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from raybt.store.schemas import COMPLETIONS, FAILURES


def failures_table(errors: Mapping[str, str], replica: str) -> pa.Table:
    """Row key -> error, in schema FAILURES."""
    rows = [{"key": key, "error": error, "replica": replica} for key, error in errors.items()]
    return pa.Table.from_pylist(rows, schema=FAILURES)


def completions_table(finished: Iterable[Any], replica: str, numerics: str) -> pa.Table:
    """The engine's completions, in schema COMPLETIONS."""
    rows = [
        {
            "key": done.key,
            "token_ids": done.token_ids,
            "finish_reason": done.finish_reason,
            "receipt": [{"site": site, "steps": steps} for site, steps in done.receipt.items()],
            "seconds": done.seconds,
            "replica": replica,
            "numerics": numerics,
        }
        for done in finished
    ]
    return pa.Table.from_pylist(rows, schema=COMPLETIONS)
