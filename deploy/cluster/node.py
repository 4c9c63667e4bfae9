"""What runs on a node: `python -m deploy.cluster.node driver` or `… worker`, as a task of Batch.

The driver starts a Spark master, says where it is, adds the workers to the job, and runs the entry
point; its exit code is the entry point's. A worker follows the newest driver of its job. Either
may be killed at any moment and is then run again on another node.
"""

import os
import sys

from deploy.cluster import driver, worker
from deploy.cluster.task import NodeTask
from recsys.errors import RecsysError

ROLES = {"driver": driver.run, "worker": worker.run}


def main(arguments: list[str]) -> int:
    """Run a driver or a worker; returns the task's exit code."""
    if len(arguments) != 1 or arguments[0] not in ROLES:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return ROLES[arguments[0]](NodeTask.from_environment(os.environ))
    except RecsysError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
