"""A job schedule: when it makes jobs, and which runs it misses."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.batch_service import wire
from tests.batch_service.jobs import Job, job_spec
from tests.batch_service.resources import Resource, at_least, checked
from tests.batch_service.wire import BatchError, Body

if TYPE_CHECKING:
    from tests.batch_service.service import BatchService

MINUTE = timedelta(minutes=1)
STATES_OF_ACTIVE = ("active", "disabling", "disabled", "enabling", "terminating")


def schedule_spec(body: object, *required: str) -> Body:
    """Return a schedule's body with what the service adds; raises BatchError."""
    spec = checked(body, *required, "schedule", "jobSpecification")
    for name in ("startWindow", "recurrenceInterval"):
        at_least(spec["schedule"], name, MINUTE)
    times = [spec["schedule"].get(name) for name in ("doNotRunUntil", "doNotRunAfter")]
    for place, name in enumerate(("doNotRunUntil", "doNotRunAfter")):
        if times[place]:
            spec["schedule"][name] = wire.timestamp(wire.parse_time(times[place]))
    spec["jobSpecification"] = job_spec(spec["jobSpecification"])
    return spec


class Schedule(Resource):
    """Makes a job at each recurrence, at most one active at a time.

    recurrence    |--- window ---|                 |--- window ---|
                  ^ due: a job if the last is over ^ the next one
                                 ^ still active: this run is missed
    """

    def __init__(self, service: "BatchService", spec: Body) -> None:
        super().__init__(spec["id"], spec, service.clock.now(), "active")
        self.service = service
        self.number = 0
        self.recent: str | None = None
        self.ended: datetime | None = None
        self.next_run: datetime | None = self._time("doNotRunUntil") or self.created

    def _time(self, name: str) -> datetime | None:
        text = self.spec["schedule"].get(name)
        return wire.parse_time(text) if text else None

    def _length(self, name: str) -> timedelta | None:
        text = self.spec["schedule"].get(name)
        return wire.parse_duration(text) if text else None

    # --------------------------------------------------------------------- time

    def active_job(self) -> Job | None:
        """Return the job that stands in the way of the next, None where there is none."""
        job = self.service.jobs.get(self.recent or "")
        return job if job and job.state in STATES_OF_ACTIVE else None

    def step(self, now: datetime) -> None:
        """Do what is due."""
        busy = self.active_job()
        if self.state == "deleting":
            if not any(job.schedule == self.id for job in self.service.jobs.values()):
                self.service.schedules.pop(self.id, None)
        elif self.state == "terminating":
            if not busy:
                self._complete(now)
        elif self.state in ("active", "disabled"):
            self._miss(now)
            last = self._time("doNotRunAfter")
            over = self.next_run is None or (last is not None and now >= last)
            if over and not busy:
                self._complete(now)
            elif self.state == "active" and not busy and self.next_run and self.next_run <= now:
                self._run()

    def _miss(self, now: datetime) -> None:
        """Let go the runs whose window is over."""
        every = self._length("recurrenceInterval")
        window = self._length("startWindow")
        if every is None:
            if window and self.next_run and now >= self.next_run + window:
                self.next_run = None
            return
        # A run is not carried into the next recurrence, however long its window.
        window = min(window or every, every)
        while self.next_run and now >= self.next_run + window:
            self.next_run += every

    def _run(self) -> None:
        """Make the job that is due."""
        assert self.next_run is not None
        self.number += 1
        name = f"{self.id}:job-{self.number}"
        self.service.add_job(
            Job(self.service, name, {**self.spec["jobSpecification"]}, self.id, self.number)
        )
        self.recent = name
        every = self._length("recurrenceInterval")
        self.next_run = self.next_run + every if every else None

    def _complete(self, now: datetime) -> None:
        self.move("completed", now)
        self.next_run, self.ended = None, now

    def due(self) -> list[datetime]:
        """Return when something may happen next."""
        last = self._time("doNotRunAfter")
        return [time for time in (self.next_run, last) if time and self.state != "completed"]

    # --------------------------------------------------------------------- requests

    def check_open(self) -> None:
        """Raise BatchError where the schedule takes no changes any more."""
        if self.state in ("completed", "terminating", "deleting"):
            raise BatchError("JobScheduleCompleted")

    def enable(self) -> None:
        """Make jobs again, from the next run that is not missed."""
        self.check_open()
        if self.state == "disabled":
            self.move("active", self.service.clock.now())

    def disable(self) -> None:
        """Make no jobs until enabled; the active one goes on."""
        self.check_open()
        if self.state == "active":
            self.move("disabled", self.service.clock.now())

    def terminate(self) -> None:
        """End, with the active job."""
        self.check_open()
        self.move("terminating", self.service.clock.now())
        if (job := self.active_job()) and job.state != "terminating":
            job.end("TerminateJobSchedule")

    def delete(self) -> None:
        """Go away, with all jobs."""
        self.move("deleting", self.service.clock.now())
        for job in list(self.service.jobs.values()):
            if job.schedule == self.id:
                job.end("TerminateJobSchedule", "deleting")

    def update(self, body: object, whole: bool = False) -> None:
        """Change schedule, jobs to come or metadata; jobs that exist stay as they are."""
        self.check_open()
        asked = checked(body)
        changes = {n: asked[n] for n in ("schedule", "jobSpecification", "metadata") if n in asked}
        if len(changes) < len(asked):
            raise BatchError("InvalidPropertyValue", PropertyName=str(sorted(set(asked))))
        kept = {"id": self.id} if whole else self.spec
        self.spec = schedule_spec(kept | changes)
        now = self.service.clock.now()
        self.changed(now)
        if "schedule" in changes:
            every, start = self._length("recurrenceInterval"), self._time("doNotRunUntil")
            self.next_run = start or (now + every if every and self.number else now)

    def view(self) -> Body:
        """Return the schedule's body."""
        info: Body = {}
        if self.next_run:
            info["nextRunTime"] = wire.timestamp(self.next_run)
        if self.recent:
            info["recentJob"] = {"url": f"{self.service.url}/jobs/{self.recent}", "id": self.recent}
        if self.ended:
            info["endTime"] = wire.timestamp(self.ended)
        heading = self.heading(f"{self.service.url}/jobschedules/{self.id}")
        return {**heading, **self.spec, "executionInfo": info}
