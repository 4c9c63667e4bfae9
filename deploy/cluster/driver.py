"""The driver of a job: a Spark master, the workers it adds, and the entry point."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from azure.core.exceptions import AzureError

from deploy.azure_batch.client import connect, create_once, explained
from deploy.azure_batch.job import worker_task
from deploy.cluster import alert
from deploy.cluster.exit_codes import NO_WORKERS, RENDEZVOUS
from deploy.cluster.rendezvous import Epoch, Rendezvous, clean
from deploy.cluster.spark_cluster import Master, stop, write_settings
from deploy.cluster.task import NodeTask
from recsys.errors import ClusterError, RecsysError
from recsys.progress import say

LOOK_EVERY = 1.0
# How often to ask whether another driver has taken over.
ASK_EVERY = 15.0
# Workers that come a little later than the first are waited for: a session counts its cores once.
REST_WITHIN = 120.0


def run(task: NodeTask) -> int:
    """Run the entry point, with a cluster where the job has workers; returns the exit code."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    code = 1
    try:
        if task.schedule and not run_id:
            run_id = _scheduled_run().open_run(task.schedule, task.job_id)
        with _ended_by_signals():
            code = _run(task, run_id)
    except RecsysError as error:
        say(f"error: {error}")
        code = error.exit_code
    if code == RENDEZVOUS:
        return code
    if task.schedule and run_id:
        _scheduled_run().close_run(run_id, code)
    if task.schedule and code != 0:
        alert.send(task.storage, alert.failure(task.schedule, task.job_id, code, run_id))
    with suppress(RecsysError):
        clean(task.storage, task.job_id)
    return code


def _scheduled_run() -> ModuleType:
    """Import what talks to MLflow, seconds of work that other drivers and workers do not need."""
    from deploy.cluster import scheduled_run

    return scheduled_run


def _run(task: NodeTask, run_id: str | None) -> int:
    """Set up what the entry point runs on, then run it."""
    environment = task.environment() | ({"MLFLOW_RUN_ID": run_id} if run_id else {})
    if not task.workers:
        return _entry_point(task, environment | {"SPARK_MASTER": "local[*]"}, None)
    secret = secrets.token_hex(32)
    settings = write_settings(task.folder / "spark", secret, task.executor_memory)
    environment["SPARK_CONF_DIR"] = str(settings)
    master = Master.start(task.address, environment, task.folder / "master.log")
    try:
        rendezvous = Rendezvous(task.storage, task.job_id)
        epoch = rendezvous.take_over(master.url, secret)
        say(f"  driver {epoch.number} of this job: {master.url}")
        add_workers(task)
        if not _wait_for_workers(task, master):
            say(f"error: no worker came within {task.capacity_minutes:g} minutes.")
            return NO_WORKERS
        environment["SPARK_MASTER"] = master.url
        return _entry_point(task, environment, (rendezvous, epoch))
    finally:
        stop(master.process)


def add_workers(task: NodeTask) -> None:
    """Add the workers to this job; those that an earlier driver added are there already.

    Raises:
        ClusterError: Batch refused.
    """
    client = connect(task.account_url)
    try:
        own = client.get_task(task.job_id, task.task_id)
    except AzureError as error:
        raise ClusterError(explained(error)) from error
    for number in range(task.workers):
        worker = worker_task(number, own)
        create_once(lambda worker=worker: client.create_task(task.job_id, worker))  # type: ignore[misc]


def _wait_for_workers(task: NodeTask, master: Master) -> bool:
    """Wait for all workers, and after a while for at least one; returns whether one came."""
    start, first, known = time.monotonic(), None, -1
    while time.monotonic() - start < 60 * task.capacity_minutes:
        here, now = master.workers(), time.monotonic()
        if here != known:
            say(f"  {here} of {task.workers} workers")
            known = here
        first = (first or now) if here else None
        if here >= task.workers or (first is not None and now - first > REST_WITHIN):
            return True
        if master.process.poll() is not None:
            raise ClusterError("The Spark master ended by itself: see master.log of this task.")
        time.sleep(LOOK_EVERY)
    return first is not None


def _entry_point(
    task: NodeTask, environment: dict[str, str], own: tuple[Rendezvous, Epoch] | None
) -> int:
    """Run the entry point's command; its output is the task's."""
    say(f"▸ {task.command}")
    process = subprocess.Popen(
        ["/bin/bash", "-c", task.command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        while True:
            try:
                code = process.wait(ASK_EVERY)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                if own and _overtaken(*own):
                    say("error: another driver of this job took over; this one ends.")
                    return RENDEZVOUS
    finally:
        stop(process)


def _overtaken(rendezvous: Rendezvous, own: Epoch) -> bool:
    """Tell whether a newer driver holds the job; storage that does not answer proves nothing."""
    with suppress(RecsysError):
        newest = rendezvous.newest()
        return newest is not None and newest.number > own.number
    return False


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM into the end of this block, so that child processes are ended, too."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
