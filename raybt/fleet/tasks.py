"""What Ray tasks give, waited for as long as the cluster can run them."""

import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from raybt.fleet.phases import lasting

LOOK_EVERY = 2.0
PATIENCE = 600.0
"""Seconds that work may wait for a node to run on: a cluster may have to fetch one."""


class NoNodeError(RayError):
    """The cluster has no CPU left for a task, and none came."""


def results(tasks: Sequence[Any]) -> list[Any]:
    """What the tasks give, in their order.

    Ray lets a task that no node can run wait for ever.

    Raises:
        NoNodeError: the cluster was without a CPU for too long.
    """
    last_seen = time.monotonic()
    while True:
        try:
            return ray.get(list(tasks), timeout=LOOK_EVERY)
        except GetTimeoutError:
            if has_cpu():
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > PATIENCE:
                raise NoNodeError(f"the cluster was without a CPU for {lasting(PATIENCE)}; run it again") from None


def has_cpu() -> bool:
    """Whether a node of the cluster has a CPU, free or not."""
    return ray.cluster_resources().get("CPU", 0) > 0
