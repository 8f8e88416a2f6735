"""Two runs whose only node with a CPU dies: `python -m tests.fleet.dying_node CONFIG`.

In the first it dies once the replica is ready; the second, on another node, when all rows are there and before they
are judged. The driver's own node has no CPU to give.
"""

import sys
import threading
import time

import ray
from ray.cluster_utils import Cluster

from raybt.cli import main
from raybt.fleet import aggregate, driver, tasks, wave
from raybt.fleet.board import set_up

SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_initial_delay_ms": 0}
HEAD = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON}


class Dying:
    """A cluster, and its node with a CPU."""

    def __init__(self):
        self.cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        self.node = None

    def add(self) -> None:
        self.node = self.cluster.add_node(num_cpus=1)

    def kill(self) -> None:
        node, self.node = self.node, None
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_when_ready(self, board) -> None:
        while len(ray.get(board.snapshot.remote()).replicas) < 1:
            time.sleep(0.1)
        self.kill()


def run(config: str) -> None:
    dying = Dying()
    tasks.PATIENCE = 2.0

    def caught():
        board = set_up()
        threading.Thread(target=dying.kill_when_ready, args=(board,), daemon=True).start()
        return board

    def killed_before(*args):
        dying.kill()
        aggregate.aggregate(*args)

    sys.argv = ["raybt", "run", config, "--address", dying.cluster.address]
    try:
        for module, name, instead in ((wave, "set_up", caught), (driver, "aggregate", killed_before)):
            dying.add()
            kept = getattr(module, name)
            setattr(module, name, instead)
            end()
            setattr(module, name, kept)
    finally:
        dying.cluster.shutdown()


def end() -> None:
    try:
        main()
    except SystemExit as ended:
        print(f"ended with {ended.code}", file=sys.stderr)


if __name__ == "__main__":
    run(sys.argv[1])
