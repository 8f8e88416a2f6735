"""The ways to write under interventions that raybt is held against, on a card: tokens a second of each."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from gpu.timing import seconds_of
from rivals import Row, batched, invokes, one_by_one

from raybt.engine.anatomy import Anatomy
from raybt.toy import MODEL_DIR

TEMPERATURE = 0.7


def rivals(anatomy: Anatomy, length: int, found: Callable[[str, float], None]) -> None:
    """Plain `generate`, one row (A) and 64 of one condition (B), and nnsight, 8 conditions of 8 rows (E), if installed.

    found: told each way's letter and tokens a second as soon as they are known.
    """
    row = Row(tuple(range(5, 69)), 1, (("mlp.1", 0.0),), length)
    model, device = anatomy.model, anatomy.device

    def speed(work: Callable[[], Any], rows: int) -> float:
        return rows * length / seconds_of(work, device)

    with torch.device(device):
        one_by_one(model, [Row(row.prompt, 1, row.factors, 4)], TEMPERATURE)  # warm
        found("A", speed(lambda: one_by_one(model, [row], TEMPERATURE), 1))
        found("B", speed(lambda: batched(model, [[row] * 64], TEMPERATURE), 64))
        if find_spec("nnsight"):
            from transformers import AutoTokenizer

            mixed = [[Row(row.prompt, c, ((f"mlp.{c % anatomy.n_layers}", 0.5),), length)] * 8 for c in range(8)]
            tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, padding_side="left")
            found("E", speed(lambda: invokes(model, tokenizer, mixed, TEMPERATURE), 64))
