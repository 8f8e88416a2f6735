"""What replicas do, many of them in one line."""

from collections.abc import Mapping

from raybt.fleet.board import Post

MOST_GROUPS = 4


def told(posts: Mapping[int, Post], expected: int, up: int = 0, ready: bool = True) -> str:
    """`replica 1: loading 3.3 GiB`, or `12 replicas loading 3.3 GiB; replica 13: proving 420 sites`.

    Args:
        expected: how many replicas there will be.
        up: how many of them an earlier wave left; of the others, Ray is starting those that have no post yet.
        ready: whether to name those that are ready too.
    """
    groups: dict[str, list[int]] = {}
    for number in range(1, expected + 1):
        phase = posts[number].phase if number in posts else "up, waiting for rows" if number <= up else "starting"
        if ready or not phase.startswith("ready"):
            groups.setdefault(phase, []).append(number)
    parts = [
        f"replica {numbers[0]}: {phase}" if len(numbers) == 1 else f"{len(numbers)} replicas {phase}"
        for phase, numbers in groups.items()
    ]
    return "; ".join(parts[:MOST_GROUPS]) + (f"; {len(parts) - MOST_GROUPS} more" if len(parts) > MOST_GROUPS else "")


def lasting(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
