"""Weighted texts to padded batches of token ids."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from raybt.toy.solutions import PAD, Piece
from raybt.toy.tokenizer import id_of

WINDOW_ROWS, BATCH_TOKENS = 64, 1200


@dataclass(frozen=True)
class Row:
    ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Batch:
    ids: Tensor  # [rows, length]
    weights: Tensor  # [rows, length], 0 where padded
    tokens: int  # without padding


def encode(tokenizer: PreTrainedTokenizerFast, pieces: list[Piece]) -> Row:
    """The whole text is tokenised at once, as generation will see it; a token weighs what its first letter does."""
    weights = [piece.weight for piece in pieces for _ in piece.text]
    text = "".join(piece.text for piece in pieces)
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return Row(encoding.ids, [weights[start] for start, _ in encoding.offsets])


def batches(draw: Callable[[], list[Piece]], tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[Batch]:
    """Endless. Rows are sorted by length within a window, so that little is padding; batches are then shuffled."""
    while True:
        window = sorted((encode(tokenizer, draw()) for _ in range(WINDOW_ROWS)), key=lambda row: len(row.ids))
        groups = _groups(window)
        rng.shuffle(groups)
        for rows in groups:
            yield pad(rows, id_of(tokenizer, PAD))


def _groups(window: list[Row]) -> list[list[Row]]:
    groups: list[list[Row]] = [[]]
    for row in window:  # ascending, so this row's length is the padded length of its group
        if (len(groups[-1]) + 1) * len(row.ids) > BATCH_TOKENS and groups[-1]:
            groups.append([])
        groups[-1].append(row)
    return groups


def pad(rows: list[Row], pad_id: int) -> Batch:
    """Right-padded: with causal attention no real token sees the padding, so no mask is needed."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id)
    weights = torch.zeros(len(rows), length)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weights[index, : len(row.ids)] = torch.tensor(row.weights)
    return Batch(ids, weights, sum(len(row.ids) for row in rows))
