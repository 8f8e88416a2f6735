"""Completions and rows made by hand, with a truth that a test can state."""

import numpy as np
import pandas as pd
import pyarrow as pa

from raybt.store.schemas import COMPLETIONS, GRADES
from tests.measure.small_tokenizers import byte_level


def completion(key: str, text: str, finish_reason: str = "eos") -> dict:
    return {
        "key": key,
        "token_ids": byte_level().encode(text),
        "finish_reason": finish_reason,
        "receipt": [],
        "seconds": 1.0,
        "replica": "r0",
        "numerics": "cpu",
    }


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, COMPLETIONS)


def graded_rows(condition: str, n_problems: int = 12, samples: int = 4, seed: int = 0, **rates: float) -> pd.DataFrame:
    """Plan rows of one condition, all done; `rates` sets the chance of onset, correct, answer and truncated."""
    rng = np.random.default_rng(seed)
    size = n_problems * samples
    draw = lambda name, usual: rng.random(size) < rates.get(name, usual)  # noqa: E731
    onset, correct, answers = draw("onset", 0.5), draw("correct", 0.8), draw("answer", 1.0)
    verdict = np.where(~answers, "unparseable", np.where(correct, "correct", "wrong"))
    verdict = np.where(draw("truncated", 0.0), "truncated", verdict)
    treated = condition != "baseline"
    return pd.DataFrame({
        "stage": "grid",
        "condition": condition,
        "variant": "default",
        "problem": np.repeat([f"p{i}" for i in range(n_problems)], samples),
        "sample": np.tile(np.arange(samples), n_problems),
        "key": [f"{condition}-{i}" for i in range(size)],
        "role": "target" if treated else "baseline",
        "control_of": None,
        "subset": condition if treated else None,
        "scale": 0.0 if treated else np.nan,
        "positions": "decode" if treated else None,
        "n_sites": 2 if treated else 0,
        **dict.fromkeys(GRADES.names[1:], None),
        "text": "text",
        "n_tokens": rng.integers(50, 100, size) + int(rates.get("tokens", 0)),
        "onset_strict": onset,
        "onset_relaxed": onset,
        "verdict": verdict,
        "gold": "1",
        "chance": rates.get("chance", 0.05),
        "repetition": rng.random(size) * 0.1 + rates.get("repetition", 0.0),
        "compression": 0.4,
        "numerics": "cpu",
        "error": None,
    })  # fmt: skip


def unfinished(rows: pd.DataFrame, where, error: str | None = None) -> pd.DataFrame:
    """The rows with those at `where` missing, or failed if there is an error."""
    rows = rows.astype(object).copy()
    rows.loc[where, [*GRADES.names[1:], "numerics"]] = None
    rows.loc[where, "error"] = error
    return rows
