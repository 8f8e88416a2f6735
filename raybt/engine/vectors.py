"""What sites put out at chosen positions of texts: the stuff that mean, resample and direction vectors are made of."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raybt.engine.anatomy import Anatomy, Point


@torch.inference_mode()
def outputs_at(
    anatomy: Anatomy, sites: Sequence[str], texts: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> Iterator[dict[str, np.ndarray]]:
    """One plain pass over each text, the sites read at its chosen positions.

    Args:
        texts: (token ids, positions) pairs.

    Yields:
        Site -> [positions, width] float32, for each text in turn.
    """
    wanted = set(sites)
    points = [point for point in anatomy.points if wanted.intersection(point.sites)]
    for tokens, positions in texts:
        with _read(points, list(positions)) as seen:
            anatomy.model(
                input_ids=torch.tensor([list(tokens)], device=anatomy.device), use_cache=False, logits_to_keep=1
            )
        yield {
            site: part
            for point in points
            for site, part in zip(point.sites, _parts(point, seen[point.name]), strict=True)
            if site in wanted
        }


def _parts(point: Point, read: Tensor) -> list[np.ndarray]:
    """A point's values cut into its sites'. read: [positions, width of all heads]."""
    return [part.numpy() for part in read.view(len(read), point.heads, -1).unbind(1)]


@contextmanager
def _read(points: list[Point], positions: list[int]) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Any) -> None:
        tensor = value[0] if isinstance(value, tuple) else value
        seen[name] = tensor.reshape(-1, tensor.shape[-1])[positions].float().cpu()

    def attach(point: Point):
        if point.side == "input":
            return point.module.register_forward_pre_hook(lambda _m, inputs: keep(point.name, inputs))
        return point.module.register_forward_hook(lambda _m, _i, out: keep(point.name, out))

    handles = [attach(point) for point in points]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
