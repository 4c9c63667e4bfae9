"""What is known about a schedule: its state, its jobs and how they ended, the runs it missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from azure.batch import BatchClient
from azure.batch.models import BatchJob, BatchJobSchedule, BatchTask
from azure.core.exceptions import AzureError, ResourceNotFoundError

from deploy.azure_batch.client import explained
from deploy.azure_batch.job import DRIVER
from deploy.cluster.exit_codes import meaning
from recsys.errors import ClusterError, UsageError

ENDED = ("completed", "terminating", "deleting")


@dataclass(frozen=True)
class ScheduledJob:
    """One job of a schedule.

    Attributes:
        id: Batch's id, `nightly:job-3`.
        created: when the schedule made it.
        started: when its driver first ran; None: never.
        ended: when it ended; None: it has not.
        exit_code: the driver's; None: it has none.
    """

    id: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    exit_code: int | None

    @property
    def failed(self) -> bool:
        """Whether it ended without success."""
        return self.ended is not None and self.exit_code != 0

    def late(self, now: datetime, patience: timedelta) -> bool:
        """Tell whether its driver waits for a node for too long."""
        return self.ended is None and self.started is None and now - self.created > patience

    def told(self) -> str:
        """Say how it ended, in words."""
        if self.ended is None:
            return "running" if self.started else "waiting for a node"
        code = "" if self.exit_code is None else f"{self.exit_code}: "
        return code + meaning(self.exit_code)


def find(client: BatchClient, name: str) -> BatchJobSchedule:
    """Return a schedule; raises UsageError where there is none, ClusterError without an answer."""
    try:
        return client.get_job_schedule(name)
    except ResourceNotFoundError:
        raise UsageError(
            f"There is no schedule {name}: see `python -m deploy.schedule list`."
        ) from None
    except AzureError as error:
        raise ClusterError(explained(error)) from error


def jobs_of(client: BatchClient, name: str) -> list[ScheduledJob]:
    """Return a schedule's jobs, newest first."""
    try:
        jobs = list(client.list_jobs_from_schedule(name))
        found = [_job(job, _driver(client, job.id)) for job in jobs]
    except AzureError as error:
        raise ClusterError(explained(error)) from error
    return sorted(found, key=lambda job: job.created, reverse=True)


def troubled(
    jobs: Sequence[ScheduledJob], now: datetime, patience: timedelta
) -> list[ScheduledJob]:
    """Return the last job that ended, if it failed, and the one that waits for too long.

    Args:
        jobs: of one schedule, newest first.
        now: the time.
        patience: how long a job may wait for a node.
    """
    ended = next((job for job in jobs if job.ended), None)
    late = [job for job in jobs[:1] if job.late(now, patience)]
    return late + ([ended] if ended and ended.failed else [])


def missed(jobs: Sequence[ScheduledJob], every: timedelta | None) -> list[datetime]:
    """Return the times at which a run was due between two jobs but none was made.

    Batch keeps no record of them: a run is missed where the job before it took too long, or while
    the schedule was paused.
    """
    if not every:
        return []
    created = sorted(job.created for job in jobs)
    return [
        before + step * every
        for before, after in pairwise(created)
        for step in range(1, round((after - before) / every))
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)) for r in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def when(time: datetime | None) -> str:
    """Write a time in UTC, `-` where there is none."""
    return "-" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _driver(client: BatchClient, job_id: str) -> BatchTask | None:
    try:
        return client.get_task(job_id, DRIVER)
    except ResourceNotFoundError:
        return None


def _job(job: BatchJob, driver: BatchTask | None) -> ScheduledJob:
    info = driver.execution_info if driver else None
    ended = job.execution_info.end_time if job.execution_info else None
    if job.state in ENDED:
        ended = ended or job.state_transition_time
    started = info.start_time if info else None
    return ScheduledJob(job.id, job.creation_time, started, ended, info.exit_code if info else None)
