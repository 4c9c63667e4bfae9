"""A worker of a job: a Spark worker that follows the newest driver."""

import signal
import subprocess
import time

from deploy.cluster.rendezvous import Epoch, Rendezvous
from deploy.cluster.spark_cluster import decommission, start_worker, stop, write_settings
from deploy.cluster.task import NodeTask
from recsys.errors import RecsysError
from recsys.progress import say

LOOK_EVERY = 2.0
# A Spark worker that ended by itself is started again after so long, then twice as long, …
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0


def run(task: NodeTask) -> int:
    """Follow the job's drivers until the job ends, which ends this task, or its time is up."""
    follower = _Follower(task)
    signal.signal(signal.SIGTERM, follower.leave)
    end = time.monotonic() + 3600 * task.max_hours
    try:
        while time.monotonic() < end and not follower.leaving:
            follower.look()
            time.sleep(LOOK_EVERY)
    finally:
        follower.end()
    return 0


class _Follower:
    """Keeps one Spark worker with the newest master."""

    def __init__(self, task: NodeTask) -> None:
        self.task = task
        self.rendezvous = Rendezvous(task.storage, task.job_id)
        self.epoch: Epoch | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.pause, self.not_before = FIRST_PAUSE, 0.0
        self.leaving = False

    def look(self) -> None:
        """Start, restart or move the Spark worker, as the log and its state ask for."""
        newest = self._newest()
        if newest is None:
            return
        if self.epoch is None or newest.number > self.epoch.number:
            self._stop()
            self.epoch, self.pause, self.not_before = newest, FIRST_PAUSE, 0.0
            say(f"  following driver {newest.number} at {newest.master}")
        elif self.process is not None and self.process.poll() is not None:
            say(f"  the Spark worker ended with {self.process.returncode}")
            self.process = None
            self.not_before = time.monotonic() + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
        if self.process is None and time.monotonic() >= self.not_before:
            self._start(self.epoch)

    def leave(self, *_: object) -> None:
        """Be asked to go: the node is needed elsewhere."""
        self.leaving = True

    def end(self) -> None:
        """Hand over what the Spark worker holds, then end it."""
        if self.process is not None:
            decommission(self.process)

    def _newest(self) -> Epoch | None:
        try:
            return self.rendezvous.newest()
        except RecsysError as error:
            say(f"  {error}")
            return None

    def _start(self, epoch: Epoch) -> None:
        task = self.task
        settings = write_settings(task.folder / "spark", epoch.secret, task.executor_memory)
        environment = task.environment() | {"SPARK_CONF_DIR": str(settings)}
        folder = task.folder / "executors"
        self.process = start_worker(epoch.master, task.address, folder, environment)

    def _stop(self) -> None:
        if self.process is not None:
            stop(self.process)
            self.process = None
