"""Tables of rows to commit in tests."""

import pyarrow as pa

from raybt.store.schemas import COMPLETIONS, FAILURES


def completions(*keys: str, token: int = 7) -> pa.Table:
    row = {"token_ids": [token, 8], "finish_reason": "eos", "receipt": [{"site": "mlp.1", "steps": 1}], "seconds": 0.5,
           "replica": "r", "numerics": "n"}  # fmt: skip
    return pa.Table.from_pylist([{"key": key, **row} for key in keys], schema=COMPLETIONS)


def failures(*keys: str, error: str = "boom") -> pa.Table:
    return pa.Table.from_pylist([{"key": key, "error": error, "replica": "r"} for key in keys], schema=FAILURES)
