"""A run whose only node with a CPU dies once the replica is ready: `python -m tests.fleet.dying_node CONFIG`.

The driver's own node has none to give.
"""

import sys
import threading
import time

import ray
from ray.cluster_utils import Cluster

from raybt.cli import main
from raybt.fleet import watching, wave
from raybt.fleet.board import set_up

SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_initial_delay_ms": 0}
HEAD = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON}


def kill_when_ready(cluster: Cluster, node, board) -> None:
    while len(ray.get(board.snapshot.remote()).replicas) < 1:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)


def run(config: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    node = cluster.add_node(num_cpus=1)
    watching.PATIENCE = 2.0

    def caught():
        board = set_up()
        threading.Thread(target=kill_when_ready, args=(cluster, node, board), daemon=True).start()
        return board

    wave.set_up = caught
    sys.argv = ["raybt", "run", config, "--address", cluster.address]
    try:
        main()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    run(sys.argv[1])
