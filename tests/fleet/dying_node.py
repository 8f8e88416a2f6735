"""Two runs whose only node with a CPU dies: `python -m tests.fleet.dying_node CONFIG`.

The first run's dies once rows are committed; the second's, when all are and before they are judged. The driver's own
node has no CPU to give.
"""

import sys
import threading
import time
from unittest.mock import patch

import ray
from ray.cluster_utils import Cluster

from raybt.cli import main
from raybt.fleet import driver, tasks, wave
from raybt.fleet.aggregate import aggregate
from raybt.fleet.board import set_up

SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_initial_delay_ms": 0}
HEAD = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON}


def run(config: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    tasks.PATIENCE = 2.0
    sys.argv = ["raybt", "run", config, "--address", cluster.address]

    def kill() -> None:
        cluster.remove_node(node, allow_graceful=False)

    def kill_at_work(board) -> None:
        while not ray.get(board.snapshot.remote()).rows:
            time.sleep(0.1)
        kill()

    def watched_set_up():
        board = set_up()
        threading.Thread(target=kill_at_work, args=(board,), daemon=True).start()
        return board

    def too_late(*args) -> None:
        kill()
        aggregate(*args)

    try:
        for module, name, instead in ((wave, "set_up", watched_set_up), (driver, "aggregate", too_late)):
            node = cluster.add_node(num_cpus=1)
            with patch.object(module, name, instead):
                end()
    finally:
        cluster.shutdown()


def end() -> None:
    try:
        main()
    except SystemExit as ended:
        print(f"ended with {ended.code}", file=sys.stderr)


if __name__ == "__main__":
    run(sys.argv[1])
