"""A job: its tasks, and when it is over."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.batch_service import wire
from tests.batch_service.pools import DEFAULTS as POOL_DEFAULTS
from tests.batch_service.pools import pool_spec
from tests.batch_service.resources import Resource, checked
from tests.batch_service.tasks import Task
from tests.batch_service.wire import BatchError, Body

if TYPE_CHECKING:
    from tests.batch_service.service import BatchService

DEFAULTS: Body = {
    "priority": 0,
    "maxParallelTasks": -1,
    "usesTaskDependencies": False,
    "allowTaskPreemption": False,
    "onAllTasksComplete": "noaction",
    "onTaskFailure": "noaction",
}
CONSTRAINTS: Body = {"maxWallClockTime": wire.UNLIMITED, "maxTaskRetryCount": 0}
MANAGER: Body = {
    "requiredSlots": 1,
    "killJobOnCompletion": True,
    "runExclusive": True,
    "allowLowPriorityNode": True,
}
# A job without tasks counts as one whose tasks are complete; the service looks now and then.
EMPTY_FOR = timedelta(seconds=2)
OVER = ("terminating", "completed", "deleting")
UPDATABLE = (
    "priority",
    "maxParallelTasks",
    "allowTaskPreemption",
    "constraints",
    "poolInfo",
    "onAllTasksComplete",
    "metadata",
    "networkConfiguration",
)


def job_spec(body: object, *required: str) -> Body:
    """Return a job's or a jobSpecification's body with the defaults; raises BatchError."""
    spec = DEFAULTS | checked(body, *required, "poolInfo")
    spec["constraints"] = CONSTRAINTS | spec.get("constraints", {})
    for name in ("onAllTasksComplete", "onTaskFailure"):
        spec[name] = spec[name].lower()
    if "jobManagerTask" in spec:
        spec["jobManagerTask"] = MANAGER | checked(spec["jobManagerTask"], "id", "commandLine")
    auto = spec["poolInfo"].get("autoPoolSpecification")
    if auto:
        checked(auto, "poolLifetimeOption")
        pool_spec(auto["pool"])
        auto.setdefault("keepAlive", False)
        auto["pool"] = POOL_DEFAULTS | auto["pool"]
    elif "poolId" not in spec["poolInfo"]:
        raise BatchError("MissingRequiredProperty", PropertyName="poolId")
    return spec


class Job(Resource):
    """Tasks on one pool.

    Args:
        service: that it belongs to.
        name: its id.
        spec: from job_spec.
        schedule: id of the schedule that made it.
        number: of the job under its schedule.
    """

    def __init__(
        self,
        service: "BatchService",
        name: str,
        spec: Body,
        schedule: str | None = None,
        number: int = 1,
    ) -> None:
        super().__init__(name, spec, service.clock.now(), "active")
        self.service = service
        self.schedule = schedule
        self.work_item = f"{schedule or name}/job-{number}".replace(":", "_")
        self.tasks: dict[str, Task] = {}
        self.info: Body = {"startTime": wire.timestamp(self.created)}
        self.pool_id = service.pool_for(self)
        self.info["poolId"] = self.pool_id
        self.disable_option = "requeue"
        self._next: str | None = None
        if "jobManagerTask" in spec:
            manager = {k: v for k, v in spec["jobManagerTask"].items() if k not in MANAGER}
            manager["requiredSlots"] = spec["jobManagerTask"]["requiredSlots"]
            task = Task(self, manager, manager=True)
            self.tasks[task.id] = task

    def move(self, state: str, now: datetime) -> None:
        """Change the state, which a job's eTag follows."""
        super().move(state, now)
        self.changed(now)

    # --------------------------------------------------------------------- tasks

    def check_open(self) -> None:
        """Raise BatchError where the job takes no changes any more."""
        names = {
            "completed": "JobCompleted",
            "terminating": "JobBeingTerminated",
            "deleting": "JobBeingDeleted",
        }
        if self.state in names:
            raise BatchError(names[self.state])

    def add(self, body: object) -> Task:
        """Take a new task."""
        self.check_open()
        task = Task(self, body)
        if task.id in self.tasks:
            raise BatchError("TaskExists")
        self.tasks[task.id] = task
        self.service.wake()
        return task

    def task(self, name: str) -> Task:
        """Return a task; raises BatchError where there is none."""
        if name not in self.tasks:
            raise BatchError("TaskNotFound")
        return self.tasks[name]

    def task_completed(self, task: Task, action: str) -> None:
        """Do what a task's end means for the job."""
        if self.state in OVER:
            return
        if task.manager and self.spec["jobManagerTask"]["killJobOnCompletion"]:
            self.end("JMComplete")
        elif self.spec["onTaskFailure"] == "performexitoptionsjobaction":
            if action == "terminate":
                self.end("TaskFailed")
            elif action == "disable":
                self.disable("requeue")

    # --------------------------------------------------------------------- states

    def end(self, reason: str, state: str = "terminating") -> None:
        """Kill what runs; the job is completed, or gone, at the next look."""
        now = self.service.clock.now()
        self.move(state, now)
        if "endTime" not in self.info:
            self.info |= {"terminateReason": reason, "endTime": wire.timestamp(now)}
        for task in list(self.tasks.values()):
            if task.state == "running":
                task.end_by_user()
        self.service.wake()

    def terminate(self, body: object) -> None:
        """End the job as a client asks."""
        self.check_open()
        asked = checked(body or {})
        self.end(asked.get("terminateReason", "UserTerminate"))

    def disable(self, option: str) -> None:
        """Run no tasks until the job is enabled."""
        self.check_open()
        if option.lower() not in ("requeue", "terminate", "wait"):
            raise BatchError("InvalidPropertyValue", PropertyName="disableTasks")
        self.move("disabling", self.service.clock.now())
        for task in list(self.tasks.values()):
            if task.state == "running" and option.lower() == "requeue":
                task.put_back()
            elif task.state == "running" and option.lower() == "terminate":
                task.end_by_user()

    def enable(self) -> None:
        """Run tasks again."""
        self.check_open()
        if self.state in ("disabled", "disabling"):
            self.move("enabling", self.service.clock.now())

    def step(self, now: datetime) -> None:
        """Do what is due."""
        for task in list(self.tasks.values()):
            task.step(now)
        running = any(task.state == "running" for task in self.tasks.values())
        if self.state == "terminating":
            self.move("completed", now)
            self.service.job_over(self)
        elif self.state == "deleting":
            for task in list(self.tasks.values()):
                task.delete()
            self.service.jobs.pop(self.id, None)
            self.service.job_over(self)
        elif self.state == "disabling" and not running:
            self.move("disabled", now)
        elif self.state == "enabling":
            self.move("active", now)
        elif self.state == "active":
            self._check_end(now)

    def _check_end(self, now: datetime) -> None:
        if any(now >= time for time in self._limit()):
            self.end("MaxWallClockTimeExpiry")
        elif self.spec["onAllTasksComplete"] == "terminatejob":
            done = all(task.state == "completed" for task in self.tasks.values())
            if done and (self.tasks or now >= self.created + EMPTY_FOR):
                self.end("AllTasksComplete")

    def _limit(self) -> list[datetime]:
        limit = wire.parse_duration(self.spec["constraints"]["maxWallClockTime"])
        return [] if limit is None else [self.created + limit]

    def due(self) -> list[datetime]:
        """Return when something may happen next."""
        if self.state != "active":
            return []
        times = [time for task in self.tasks.values() for time in task.due()]
        return [*times, *self._limit(), self.created + EMPTY_FOR]

    # --------------------------------------------------------------------- wire

    def update(self, body: object, whole: bool = False) -> None:
        """Change properties; a whole update puts the others back to their defaults."""
        self.check_open()
        asked = checked(body)
        for name in asked:
            if name not in UPDATABLE:
                raise BatchError("InvalidPropertyValue", PropertyName=name)
        if whole and "poolInfo" not in asked:
            raise BatchError("MissingRequiredProperty", PropertyName="poolInfo")
        spec = {name: value for name, value in self.spec.items() if name not in UPDATABLE}
        merged = (spec if whole else self.spec) | asked
        self.spec = job_spec(merged)
        self.pool_id = self.spec["poolInfo"].get("poolId", self.pool_id)
        self.changed(self.service.clock.now())

    def counts(self) -> Body:
        """Return how many tasks, and slots of tasks, are in each state."""
        found: Body = {}
        for name, weight in (("taskCounts", False), ("taskSlotCounts", True)):
            row = dict.fromkeys(("active", "running", "completed", "succeeded", "failed"), 0)
            for task in self.tasks.values():
                size = int(task.spec["requiredSlots"]) if weight else 1
                row[task.state] += size
                if task.state == "completed":
                    row["succeeded" if task.info["result"] == "success" else "failed"] += size
            found[name] = row
        return found

    def view(self) -> Body:
        """Return the job's body."""
        heading = self.heading(f"{self.service.url}/jobs/{self.id}")
        return {**heading, **self.spec, "id": self.id, "executionInfo": self.info}
