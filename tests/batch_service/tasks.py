"""A task: where it runs, how often, and what its end means for its job."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.batch_service import wire
from tests.batch_service.nodes import Node, ended_fields
from tests.batch_service.resources import Resource, checked, positive
from tests.batch_service.runs import Outcome, Run, failure
from tests.batch_service.wire import BatchError, Body

if TYPE_CHECKING:
    from tests.batch_service.jobs import Job

USER: Body = {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}


class Task(Resource):
    """A command that a node is to run to its end."""

    def __init__(self, job: "Job", body: object, manager: bool = False) -> None:
        spec = checked(body, "id", "commandLine")
        positive(spec, "requiredSlots")
        _check_files(spec)
        if "dependsOn" in spec and not job.spec["usesTaskDependencies"]:
            raise BatchError("TaskDependenciesNotSpecifiedOnJob")
        limits = {
            "maxWallClockTime": wire.UNLIMITED,
            "retentionTime": "P7D",
            "maxTaskRetryCount": job.spec["constraints"]["maxTaskRetryCount"],
        }
        spec["constraints"] = limits | spec.get("constraints", {})
        spec.setdefault("userIdentity", USER)
        spec.setdefault("requiredSlots", 1)
        super().__init__(spec["id"], spec, job.service.clock.now(), "active")
        self.job = job
        self.service = job.service
        self.manager = manager
        self.retries = 0
        self.requeues = 0
        self.info: Body = {}
        self.node: Node | None = None
        self.run: Run | None = None
        self.token: str | None = None
        self.started: datetime | None = None
        self.satisfies = False

    # --------------------------------------------------------------------- running

    @property
    def exclusive(self) -> bool:
        """Whether it wants a node for itself."""
        return self.manager and bool(self.job.spec["jobManagerTask"]["runExclusive"])

    def may_run_on(self, node: Node) -> bool:
        """Tell whether a node may take it now."""
        if self.manager and not (
            node.dedicated or self.job.spec["jobManagerTask"]["allowLowPriorityNode"]
        ):
            return False
        if self.exclusive:
            return not node.runs
        return bool(node.free_slots >= self.spec["requiredSlots"])

    @property
    def ready(self) -> bool:
        """Whether it waits for nothing but a node."""
        return self.state == "active" and all(
            other in self.job.tasks and self.job.tasks[other].satisfies for other in self._parents()
        )

    @property
    def folder(self) -> str:
        """Its folder below the node's root."""
        return f"workitems/{self.job.work_item}/{self.id}"

    @property
    def here(self) -> Path:
        """The same on this machine, where its node has it."""
        assert self.node is not None
        return self.node.disk.tasks / self.folder

    def _parents(self) -> list[str]:
        wanted = self.spec.get("dependsOn", {})
        ranges = wanted.get("taskIdRanges", [])
        numbers = [str(n) for r in ranges for n in range(r["start"], r["end"] + 1)]
        return [*wanted.get("taskIds", []), *numbers]

    def begin(self, node: Node) -> None:
        """Run on a node."""
        environment = node.environment(self.folder, self.spec) | {
            "AZ_BATCH_JOB_ID": self.job.id,
            "AZ_BATCH_TASK_ID": self.id,
        }
        for setting in self.job.spec.get("commonEnvironmentSettings", []):
            environment.setdefault(setting["name"], setting.get("value", ""))
        if "job" in self.spec.get("authenticationTokenSettings", {}).get("access", []):
            self.token = self.service.gate.issue(f"/jobs/{self.job.id}")
            environment["AZ_BATCH_AUTHENTICATION_TOKEN"] = self.token
        self.node = node
        self.started = self.service.clock.now()
        self.info = {"startTime": wire.timestamp(self.started)}
        self.move("running", self.started)
        marker = node.marker(self.folder)
        run = Run(node.disk, self.folder, self.spec, environment, marker, self._ended)
        self.run = run
        slots = self.spec["requiredSlots"]
        if self.exclusive:
            slots = int(node.pool.spec["taskSlotsPerNode"])
        node.take(self, run, slots)

    def _ended(self, run: Run, outcome: Outcome) -> None:
        """Take note of how a run ended (called by its thread)."""
        with self.service.lock:
            if run.cancelled or run is not self.run or self.node is None:
                return
            self._stop(success=outcome.failure is None)
            limit = self.spec["constraints"]["maxTaskRetryCount"]
            if outcome.code and (limit < 0 or self.retries < limit):
                self.retries += 1
                now = self.service.clock.now()
                self.info = {"lastRetryTime": wire.timestamp(now)}
                self.move("active", now)
            else:
                self._complete(outcome)
        self.service.wake()

    def _stop(self, success: bool = False) -> None:
        """Leave the node, with nothing left running there."""
        self.service.gate.revoke(self.token)
        run, self.run, self.token = self.run, None, None
        if run is None:
            return
        if not success:
            run.cancel()
        assert self.node is not None
        self.node.release(run, success)

    def _complete(self, outcome: Outcome) -> None:
        """End for good, and do to the job what the exit options say."""
        now = self.service.clock.now()
        fields = ended_fields(outcome, now)
        fields.pop("state")
        self.info |= fields
        self.move("completed", now)
        options = self._exit_options(outcome)
        default = "satisfy" if outcome.failure is None else "block"
        self.satisfies = options.get("dependencyAction", default).lower() == "satisfy"
        self.job.task_completed(self, options.get("jobAction", "none").lower())

    def _exit_options(self, outcome: Outcome) -> Body:
        """Return what the task's exit conditions say of an end."""
        conditions = self.spec.get("exitConditions", {})
        if outcome.code is None:
            return dict(conditions.get("preProcessingError", conditions.get("default", {})))
        for entry in conditions.get("exitCodes", []):
            if entry["code"] == outcome.code:
                return dict(entry["exitOptions"])
        for entry in conditions.get("exitCodeRanges", []):
            if entry["start"] <= outcome.code <= entry["end"]:
                return dict(entry["exitOptions"])
        return dict(conditions.get("default", {}))

    def requeue(self) -> None:
        """Go back into the queue after the node was lost; this costs no retry."""
        self.service.gate.revoke(self.token)
        self.run = self.token = self.node = None
        self.requeues += 1
        now = self.service.clock.now()
        self.info = {"lastRequeueTime": wire.timestamp(now)}
        self.move("active", now)

    def put_back(self) -> None:
        """Stop running, to run again later."""
        self._stop()
        self.requeue()

    def end_by_user(self) -> None:
        """End because somebody asked."""
        self._stop()
        self._complete(Outcome(failure=failure("TaskEnded")))

    def step(self, now: datetime) -> None:
        """End the task where it has run for too long."""
        limit = wire.parse_duration(self.spec["constraints"]["maxWallClockTime"])
        if self.state == "running" and limit and self.started and now >= self.started + limit:
            self._stop()
            text = "The maximum wall clock time of the task was reached"
            self._complete(Outcome(failure=failure("TaskEnded", Reason=text)))

    def due(self) -> list[datetime]:
        """Return when the task's time is up."""
        limit = wire.parse_duration(self.spec["constraints"]["maxWallClockTime"])
        if self.state != "running" or limit is None or self.started is None:
            return []
        return [self.started + max(limit, timedelta())]

    # --------------------------------------------------------------------- requests

    def terminate(self) -> None:
        """End the task."""
        if self.state == "completed":
            raise BatchError("TaskCompleted")
        self.end_by_user()

    def reactivate(self) -> None:
        """Let a failed task run again."""
        if self.state != "completed":
            raise BatchError("TaskNotCompleted")
        if self.info["result"] == "success":
            raise BatchError("TaskSucceeded")
        self.job.check_open()
        self.retries = 0
        self.info = {}
        self.move("active", self.service.clock.now())

    def delete(self) -> None:
        """Stop and forget the task, with its files."""
        self._stop()
        if self.node is not None:
            shutil.rmtree(self.here, ignore_errors=True)
        self.job.tasks.pop(self.id)

    def view(self) -> Body:
        """Return the task's body."""
        url = f"{self.service.url}/jobs/{self.job.id}/tasks/{self.id}"
        info = {**self.info, "retryCount": self.retries, "requeueCount": self.requeues}
        body = {**self.heading(url), **self.spec, "executionInfo": info}
        if self.node is not None:
            body["nodeInfo"] = {
                "affinityId": f"TVM:{self.node.id}",
                "nodeUrl": self.node.url,
                "poolId": self.node.pool.id,
                "nodeId": self.node.id,
                "taskRootDirectory": self.folder,
                "taskRootDirectoryUrl": f"{self.node.url}/files/{self.folder}",
            }
        return body


def _check_files(spec: Body) -> None:
    """Raise BatchError where a resource file would lie outside the working directory."""
    for file in spec.get("resourceFiles", []):
        path = file.get("filePath", "file")
        if path.startswith("/") or ".." in path.split("/"):
            raise BatchError("InvalidPropertyValue", PropertyName="filePath", PropertyValue=path)
