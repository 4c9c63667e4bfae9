"""Schedules of `batch_score` on Azure Batch.

  python -m deploy.schedule create --name nightly --every 1d --not_before 2026-12-01T02:00:00Z
      --interactions az://data/ingested --output az://data/recommendations
  python -m deploy.schedule list
  python -m deploy.schedule show --name nightly
  python -m deploy.schedule pause --name nightly      (and resume, delete)
  python -m deploy.schedule check                     (exit code 1 where a last job failed)

A schedule makes one job at a time: a run that is due while the job before it still runs is made
when that ends, if its window is still open, and is missed otherwise. Each job publishes under a
slot of its own, so a job that is run again publishes once. `VERB --help` explains the parameters.
"""

import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.batch.models import BatchJobScheduleConfiguration, BatchJobScheduleCreateOptions
from azure.core.exceptions import AzureError
from pydantic import Field

from deploy.azure_batch.backend import SPARE, Submission, check_reachable, command_of
from deploy.azure_batch.client import connect, create_once, explained
from deploy.azure_batch.config import BackendConfig
from deploy.azure_batch.job import Work, job_specification
from deploy.azure_batch.schedules import ScheduledJob, find, jobs_of, missed, table, troubled, when
from deploy.batch_score import BatchScoreConfig, checked
from deploy.cluster import alert
from deploy.cluster.cost import cost_of
from recsys import cli
from recsys.config import Config
from recsys.errors import ClusterError, UsageError
from recsys.progress import say

PROGRAM = "python -m deploy.schedule"
SLOT = "@slot@"
UNITS = {"m": 1, "h": 60, "d": 60 * 24, "w": 60 * 24 * 7}
SHOWN_JOBS = 10


class Common(Config):
    """Which account."""

    backend_config: str = Field(
        "deploy/azure_batch.json", description="the backend's configuration"
    )

    def backend(self) -> BackendConfig:
        """Read the configuration; raises UsageError."""
        return BackendConfig.from_file(self.backend_config)


class Named(Common):
    """Which schedule."""

    name: str = Field(pattern=r"^[\w-]{1,48}$", description="the schedule's name")


class Create(Named):
    """A new schedule of batch_score."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: str = Field("Production", description="stage or alias whose holder scores")
    strategy: str = Field("next_best_products", description="name in deploy/strategies")
    interactions: str = Field(description="URL of the newest interactions")
    output: str = Field(description="URL to publish to")
    k: int | None = Field(None, ge=1, description="items a customer; none: what the strategy says")
    every: str = Field(description="how often: 30m, 6h, 1d, 1w, or PT6H, P1D")
    window: str | None = Field(
        None, description="how long after it was due a run may still start; none: until the next"
    )
    not_before: datetime | None = Field(None, description="first run, 2026-12-01T02:00:00Z")
    not_after: datetime | None = Field(None, description="no runs from then on")
    webhook: str | None = Field(
        None,
        description="https:// address that is told of a failed job; kept in storage, not in the "
        "job; better set as RECSYS_WEBHOOK, which no process list shows",
    )
    project: str = Field(".", description="the project's folder")


class Check(Common):
    """Which schedules."""

    name: str | None = Field(None, description="the schedule's name; none: all")


def create(config: Create) -> None:
    """Stage the project, make sure of the pool, and make the schedule.

    Raises:
        UsageError: a parameter is wrong, or the name is taken.
        ClusterError: Batch or storage refused.
    """
    backend, every = config.backend(), _duration(config.every, "every")
    values = config.model_dump(
        include={"model_name", "stage", "strategy", "interactions", "output"}
    )
    values |= {"k": str(config.k or "none"), "slot": SLOT}
    checked(BatchScoreConfig.checked(values | {"k": config.k, "slot": None}, PROGRAM))
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    check_reachable(tracking, backend)
    root = Path(config.project)
    # The slot is known on the node only: it is the job's own id.
    command = command_of(root, "batch_score", values).replace(SLOT, '"$RECSYS_SLOT"')
    client = connect(backend.batch_endpoint)
    submission = Submission.of(backend, root, _lasts(config, backend))
    submission.stage(client)
    work = Work(command, submission.project, tracking, submission.code, schedule=config.name)
    options = BatchJobScheduleCreateOptions(
        id=config.name,
        schedule=BatchJobScheduleConfiguration(
            recurrence_interval=every,
            start_window=_duration(config.window, "window") if config.window else None,
            do_not_run_until=_utc(config.not_before),
            do_not_run_after=_utc(config.not_after),
        ),
        job_specification=job_specification(backend, work),
    )
    alert.keep_webhook(
        backend.storage, config.name, config.webhook or os.environ.get("RECSYS_WEBHOOK")
    )
    if not create_once(lambda: client.create_job_schedule(options)):
        raise UsageError(f"There is a schedule {config.name}: delete it, or take another name.")
    say(f"Schedule {config.name} made: every {config.every}, each job {cost_of(backend).line()}.")


def list_all(config: Common) -> None:
    """Print one line a schedule."""
    client = connect(config.backend().batch_endpoint)
    rows = []
    for schedule in _answered(lambda: list(client.list_job_schedules())):
        last = next(iter(jobs_of(client, schedule.id)), None)
        info = schedule.execution_info
        rows.append(
            (
                schedule.id,
                _word(schedule.state),
                when(info.next_run_time if info else None),
                when(last.created if last else None),
                last.told() if last else "no job yet",
            )
        )
    say(table(("schedule", "state", "next run", "last job", "how it ended"), rows))


def show(config: Named) -> None:
    """Print a schedule, its last jobs and the runs that it missed."""
    client = connect(config.backend().batch_endpoint)
    schedule, jobs = find(client, config.name), jobs_of(client, config.name)
    times = schedule.schedule
    every = times.recurrence_interval if times else None
    manager = schedule.job_specification.job_manager_task
    settings = {s.name: s.value for s in (manager.environment_settings or [] if manager else [])}
    info = schedule.execution_info
    say(
        f"{schedule.id}: {_word(schedule.state)}, every {_span(every)}, window "
        f"{_span(times.start_window if times else None) or 'until the next run'}"
    )
    say(f"next run  {when(info.next_run_time if info else None)}")
    say(f"code      {settings.get('RECSYS_CODE_VERSION')}")
    say(f"command   {settings.get('RECSYS_COMMAND')}\n")
    rows = [
        (job.id, when(job.created), when(job.started), when(job.ended), job.told())
        for job in jobs[:SHOWN_JOBS]
    ]
    say(table(("job", "made", "started", "ended", "how it ended"), rows))
    gaps = missed(jobs, every)
    if gaps:
        say(f"\nmissed, or due while paused: {', '.join(map(when, gaps[-SHOWN_JOBS:]))}")


def pause(config: Named) -> None:
    """Make no more jobs; one that runs goes on."""
    client = connect(config.backend().batch_endpoint)
    find(client, config.name)
    _answered(lambda: client.disable_job_schedule(config.name))
    say(f"Schedule {config.name} is paused.")


def resume(config: Named) -> None:
    """Make jobs again, from the next time that is due."""
    client = connect(config.backend().batch_endpoint)
    find(client, config.name)
    _answered(lambda: client.enable_job_schedule(config.name))
    say(f"Schedule {config.name} goes on.")


def delete(config: Named) -> None:
    """Delete a schedule with its jobs, one that runs is ended, and forget its webhook."""
    backend = config.backend()
    client = connect(backend.batch_endpoint)
    find(client, config.name)
    seconds = max(1, int(backend.poll_seconds))
    _answered(
        lambda: client.begin_delete_job_schedule(config.name, polling_interval=seconds).wait(120)
    )
    alert.keep_webhook(backend.storage, config.name, None)
    say(f"Schedule {config.name} is deleted; what it published stands.")


def check(config: Check) -> None:
    """Tell which last jobs failed or never started; each webhook is called once a job.

    Raises:
        ClusterError: one did.
    """
    backend = config.backend()
    client = connect(backend.batch_endpoint)
    names = (
        [config.name]
        if config.name
        else [s.id for s in _answered(lambda: list(client.list_job_schedules()))]
    )
    patience = timedelta(minutes=backend.capacity_minutes)
    bad = []
    for name in names:
        find(client, name)
        for job in troubled(jobs_of(client, name), datetime.now(UTC), patience):
            bad.append(f"{job.id}: {job.told()}")
            _tell(backend, name, job)
    if bad:
        raise ClusterError(f"{'; '.join(bad)}: see `{PROGRAM} show`.")
    say(f"{len(names)} schedule{'s' * (len(names) != 1)}: nothing failed.")


VERBS: dict[str, tuple[Callable[[Any], None], type[Config]]] = {
    "create": (create, Create),
    "list": (list_all, Common),
    "show": (show, Named),
    "pause": (pause, Named),
    "resume": (resume, Named),
    "delete": (delete, Named),
    "check": (check, Check),
}


def _tell(backend: BackendConfig, name: str, job: ScheduledJob) -> None:
    told = alert.failure(name, job.id, job.exit_code)
    if alert.send(backend.storage, told):
        say(f"  the webhook of {name} was told")


def _lasts(config: Create, backend: BackendConfig) -> timedelta:
    """Return how long nodes need the archives; raises UsageError where links end too early."""
    if backend.identity:
        return SPARE
    if config.not_after is None:
        raise UsageError(
            "not_after is missing: without an identity nodes get the code by a link, which ends "
            "with the schedule."
        )
    until = _utc(config.not_after)
    return (until or datetime.now(UTC)) - datetime.now(UTC) + timedelta(hours=backend.max_hours)


def _duration(text: str, name: str) -> timedelta:
    """Read 30m, 6h, 1d, 1w, PT6H or P1D; raises UsageError."""
    short = re.fullmatch(r"(\d+)([mhdw])", text)
    if short:
        return timedelta(minutes=int(short[1]) * UNITS[short[2]])
    long = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", text)
    if long and any(long.groups()):
        days, hours, minutes = (int(part or 0) for part in long.groups())
        return timedelta(days=days, hours=hours, minutes=minutes)
    raise UsageError(f"{name}={text!r} is no time: give 30m, 6h, 1d, 1w, PT6H or P1D.")


def _span(time: timedelta | None) -> str:
    """Write a duration as `_duration` reads it, in the largest unit that it is whole in."""
    if time is None:
        return ""
    minutes = int(time.total_seconds() / 60)
    unit = next(name for name in reversed(UNITS) if minutes % UNITS[name] == 0)
    return f"{minutes // UNITS[unit]}{unit}"


def _utc(time: datetime | None) -> datetime | None:
    """Take a time without a zone for UTC."""
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _answered(ask: Callable[[], Any]) -> Any:
    """Ask Batch; raises ClusterError with a sentence."""
    try:
        return ask()
    except AzureError as error:
        raise ClusterError(explained(error)) from error


def _word(state: object) -> str:
    return str(getattr(state, "value", state))


def main(arguments: list[str]) -> None:
    """Run one verb."""
    if not arguments or arguments[0] not in VERBS:
        print(f"{__doc__}\nverbs: {', '.join(VERBS)}", file=sys.stderr)
        raise SystemExit(0 if arguments in (["--help"], ["-h"]) else 2)
    step, config = VERBS[arguments[0]]
    program = f"{PROGRAM} {arguments[0]}"
    cli.run(step, config, step.__doc__, program, arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
