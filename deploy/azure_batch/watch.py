"""Watching a job: what changed, what the driver prints, and whether it can still succeed."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from azure.batch import BatchClient
from azure.batch.models import BatchJob, BatchNode, BatchPool, BatchTask
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

from deploy.azure_batch.config import BackendConfig
from deploy.azure_batch.job import DRIVER
from deploy.cluster.exit_codes import meaning
from recsys.errors import CapacityError, ClusterError, NodeError, PoolError
from recsys.progress import say

USABLE = ("idle", "running")
COMING = ("creating", "starting", "waitingforstarttask", "rebooting", "reimaging", "preempted")
OUTPUT, ERRORS = "stdout.txt", "stderr.txt"
START_TASK_LOG = "startup/stderr.txt"
PIECE = 1 << 20
TAIL = 15
ENDED_BY_USER = "TaskEnded"
# Codes of an answer that only means: nothing to read there now.
NOTHING_THERE = (404, 409)


@dataclass(frozen=True)
class Ended:
    """How a job ended: the driver's exit code where it has one, and a sentence."""

    exit_code: int | None
    by_hand: bool
    told: str


class Watch:
    """Looks at one job again and again.

    Args:
        client: the Batch account.
        config: the backend's configuration.
        job_id: the job.
    """

    def __init__(self, client: BatchClient, config: BackendConfig, job_id: str) -> None:
        self.client, self.config, self.job_id = client, config, job_id
        self.output = _Output(client, job_id)
        self._line = ""
        self._hope_since = time.monotonic()

    def look(self) -> Ended | None:
        """Print what changed; returns how the job ended, None while it runs.

        Raises:
            CapacityError: no usable node came in time.
            NodeError: nodes came, but none became usable.
            PoolError: the pool is gone, or its formula does not work.
            ClusterError: the job is gone.
            AzureError: the service does not answer.
        """
        try:
            job = self.client.get_job(self.job_id)
        except ResourceNotFoundError:
            raise ClusterError(f"Job {self.job_id} is gone: somebody deleted it.") from None
        driver = self._driver()
        self.output.read(driver)
        if driver is not None and driver.state == "completed":
            ended = _ended(job, driver, self.problem())
            if ended.exit_code and (complaints := self.output.complaints()):
                say(complaints)
            return ended
        if job.state in ("completed", "terminating", "deleting"):
            return _ended(job, driver, "")
        pool, nodes = self._pool()
        self._say(pool, nodes, driver)
        self._check(pool, nodes, driver)
        return None

    def problem(self) -> str:
        """Say what is wrong with the pool, if anything."""
        try:
            pool, nodes = self._pool()
        except (AzureError, PoolError):
            return ""
        failed = [node for node in nodes if node.state == "starttaskfailed"]
        if failed:
            return _start_task_failed(failed[0], self._start_log(failed[0]))
        return "; ".join(f"{e.code}: {e.message}" for e in pool.resize_errors or [])

    def _driver(self) -> BatchTask | None:
        try:
            return self.client.get_task(self.job_id, DRIVER)
        except ResourceNotFoundError:
            return None

    def _pool(self) -> tuple[BatchPool, list[BatchNode]]:
        name = self.config.pool.id
        try:
            pool = self.client.get_pool(name)
            return pool, list(self.client.list_nodes(name))
        except ResourceNotFoundError:
            raise PoolError(f"Pool {name} was deleted while the job ran.") from None

    def _say(self, pool: BatchPool, nodes: Sequence[BatchNode], driver: BatchTask | None) -> None:
        """Print one line where something changed."""
        states = Counter(str(getattr(node.state, "value", node.state)) for node in nodes)
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        line = f"  pool {pool.id} {_word(pool.allocation_state)}: {counted or 'no nodes'}"
        line += f"; driver {_word(driver.state) if driver else 'not there yet'}"
        if driver and driver.node_info and driver.state == "running":
            line += f" on {driver.node_info.node_id}"
        if line != self._line:
            say(line)
            self._line = line

    def _check(self, pool: BatchPool, nodes: Sequence[BatchNode], driver: BatchTask | None) -> None:
        """Raise where the driver cannot start: a node's start task failed, or nothing came."""
        fit = [n for n in nodes if n.is_dedicated or self.config.pool.driver == "spot"]
        usable = any(node.state in USABLE for node in fit)
        if usable or (driver is not None and driver.state in ("running", "preparing")):
            self._hope_since = time.monotonic()
            return
        failed = [node for node in fit if node.state == "starttaskfailed"]
        if failed and not any(node.state in COMING for node in fit):
            raise NodeError(_start_task_failed(failed[0], self._start_log(failed[0])))
        minutes = self.config.capacity_minutes
        if time.monotonic() - self._hope_since < 60 * minutes:
            return
        if any(node.state == "unusable" for node in fit):
            raise NodeError(
                f"The nodes of pool {pool.id} are unusable for {minutes:g} minutes"
                f"{_errors(fit)}: look at them in the portal, or try another size or image."
            )
        run = pool.auto_scale_run
        if run is not None and run.error is not None:
            raise PoolError(
                f"The formula of pool {pool.id} does not work ({run.error.code}: "
                f"{run.error.message}): correct the pool or delete it."
            )
        errors = "; ".join(f"{e.code}: {e.message}" for e in pool.resize_errors or [])
        raise CapacityError(
            f"No usable node came within {minutes:g} minutes ({errors or 'no reason given'}): "
            "try later, another size or region, a dedicated driver, or ask for more quota."
        )

    def _start_log(self, node: BatchNode) -> str:
        """Return the end of what a node's start task complained about."""
        try:
            parts = self.client.download_node_file(self.config.pool.id, node.id, START_TASK_LOG)
            lines = b"".join(parts).decode(errors="replace").splitlines()
        except AzureError:
            return ""
        return "\n".join(lines[-TAIL:])


class _Output:
    """Prints what a driver writes, from where it stopped, also on another node."""

    def __init__(self, client: BatchClient, job_id: str) -> None:
        self.client, self.job_id = client, job_id
        self.place: tuple[str | None, datetime | None] | None = None
        self.offset = 0

    def read(self, driver: BatchTask | None) -> None:
        """Print what is new."""
        if driver is None or driver.node_info is None or driver.state not in _WRITES:
            return
        started = driver.execution_info.start_time if driver.execution_info else None
        place = (driver.node_info.node_id, started)
        if self.place is not None and place != self.place:
            say(f"  the driver runs again, on {place[0]}")
            self.offset = 0
        self.place = place
        size = self._size()
        while size > self.offset:
            self.offset += self._print(self.offset, min(size, self.offset + PIECE) - 1)

    def complaints(self) -> str:
        """Return the end of what the driver's own start wrote, such as a missing module."""
        try:
            parts = self.client.download_task_file(self.job_id, DRIVER, ERRORS)
            lines = b"".join(parts).decode(errors="replace").splitlines()
        except AzureError:
            return ""
        return "\n".join(lines[-TAIL:])

    def _size(self) -> int:
        """Return how much is written; 0 where there is nothing to read now."""
        try:
            found = self.client.get_task_file_properties(self.job_id, DRIVER, OUTPUT)
        except HttpResponseError as error:
            if error.status_code not in NOTHING_THERE:
                raise
            return 0
        return int(found.content_length)

    def _print(self, first: int, last: int) -> int:
        """Print a piece and return its length; one that went away meanwhile has none."""
        wanted = f"bytes={first}-{last}"
        parts = self.client.download_task_file(self.job_id, DRIVER, OUTPUT, ocp_range=wanted)
        piece = b"".join(parts)
        sys.stdout.write(piece.decode(errors="replace"))
        sys.stdout.flush()
        return len(piece)


_WRITES = ("running", "completed")


def _ended(job: BatchJob, driver: BatchTask | None, problem: str) -> Ended:
    """Say how a job ended."""
    info = driver.execution_info if driver else None
    code = info.exit_code if info else None
    reason = job.execution_info.termination_reason if job.execution_info else None
    if code is not None:
        told = f"exit code {code}: {meaning(code)}"
        return Ended(code, False, f"{told} ({problem})" if code and problem else told)
    if reason == "MaxWallClockTimeExpiry":
        return Ended(None, False, "the job's time was up: raise max_hours")
    failure = info.failure_info if info else None
    if failure is not None and failure.code != ENDED_BY_USER:
        return Ended(None, False, f"the driver failed ({failure.code}: {failure.message})")
    return Ended(None, True, f"the job was ended from outside ({reason or 'no reason given'})")


def _start_task_failed(node: BatchNode, log: str) -> str:
    code = node.start_task_info.exit_code if node.start_task_info else None
    tail = f"; the end of its log:\n{log}" if log else ""
    return f"The start task of node {node.id} failed (exit code {code}){tail}"


def _errors(nodes: Sequence[BatchNode]) -> str:
    """Return what the nodes report, in brackets."""
    found = sorted({f"{e.code}: {e.message}" for n in nodes for e in n.errors or []})
    return f" ({'; '.join(found)})" if found else ""


def _word(state: object) -> str:
    return str(getattr(state, "value", state))
