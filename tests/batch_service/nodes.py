"""A compute node: its states, its start task, the tasks that run on it, its loss."""

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from tests.batch_service import processes, wire
from tests.batch_service.processes import Disk
from tests.batch_service.runs import Outcome, Run
from tests.batch_service.wire import Body

if TYPE_CHECKING:
    from tests.batch_service.pools import Pool
    from tests.batch_service.service import BatchService
    from tests.batch_service.tasks import Task

STARTUP = "startup"
WORKING = ("idle", "running")
# States that a node counts as usable in; the others wait for something or are lost.
COUNTED = (
    "creating",
    "deallocated",
    "deallocating",
    "idle",
    "leavingPool",
    "offline",
    "preempted",
    "rebooting",
    "reimaging",
    "running",
    "starting",
    "startTaskFailed",
    "unknown",
    "unusable",
    "upgradingOS",
    "waitingForStartTask",
)


class Node:
    """One node of a pool.

    creating → starting → waitingforstarttask → idle ⇄ running, or starttaskfailed, unusable,
    and for Spot nodes preempted, from where it begins again with the same id and an empty disk.

    Args:
        service: that it belongs to.
        pool: that it belongs to.
        dedicated: False for a Spot node.
        broken: it will be unusable.
    """

    def __init__(
        self, service: "BatchService", pool: "Pool", dedicated: bool, broken: bool
    ) -> None:
        kind = "d" if dedicated else "p"
        self.id = f"tvmps_{uuid.uuid4().hex}{uuid.uuid4().hex}_{kind}"
        self.service = service
        self.pool = pool
        self.dedicated = dedicated
        self.broken = broken
        self.address = service.free_address()
        self.disk = Disk(service.folder / "nodes" / self.id, service.isolated)
        self.runs: dict[Run, Task] = {}
        self.slots: dict[Run, int] = {}
        self.totals = [0, 0]
        self.allocated = service.clock.now()
        self._create()

    def _create(self) -> None:
        """Begin as a new machine."""
        self.disk.wipe()
        self.move("creating")
        self.booted: datetime | None = None
        self.start_run: Run | None = None
        self.start_info: Body | None = None
        self.due = self.service.clock.now() + self.service.settings.boot

    @property
    def free_slots(self) -> int:
        """Task slots that are not taken."""
        return int(self.pool.spec["taskSlotsPerNode"]) - sum(self.slots.values())

    def move(self, state: str) -> None:
        """Change the state."""
        self.state = state
        self.since = self.service.clock.now()
        self.service.wake()

    def step(self, now: datetime) -> None:
        """Do what is due."""
        if self.state == "creating" and now >= self.due:
            self.due = now + self.service.settings.boot
            self.move("starting")
        elif self.state == "starting" and now >= self.due:
            self.booted = now
            self._begin()
        elif self.state == "preempted" and now >= self.due and self.service.has_room(False):
            self._create()
        elif self.state == "leavingpool" and not self.runs:
            self.pool.remove(self)

    def _begin(self) -> None:
        """Run the start task, or stay unusable."""
        spec = self.pool.spec.get("startTask")
        if self.broken:
            self.move("unusable")
        elif spec is None:
            self.move("idle")
        else:
            self.start_info = {"retryCount": 0}
            self.move("waitingforstarttask" if spec["waitForSuccess"] else "idle")
            self._start_task(spec)

    def _start_task(self, spec: Body) -> None:
        assert self.start_info is not None
        now = wire.timestamp(self.service.clock.now())
        self.start_info = {
            "state": "running",
            "startTime": now,
            "retryCount": self.start_info["retryCount"],
        }
        environment = self.environment(STARTUP, spec)
        self.start_run = Run(
            self.disk, STARTUP, spec, environment, self.marker(STARTUP), self._start_ended
        )
        self.start_run.start()

    def _start_ended(self, run: Run, outcome: Outcome) -> None:
        """Take note of how the start task ended (called by its thread)."""
        with self.service.lock:
            if run.cancelled or run is not self.start_run:
                return
            assert self.start_info is not None
            spec = self.pool.spec["startTask"]
            if outcome.failure and self.start_info["retryCount"] < spec["maxTaskRetryCount"]:
                self.start_info["retryCount"] += 1
                self._start_task(spec)
                return
            self.start_info |= ended_fields(outcome, self.service.clock.now())
            if self.state == "waitingforstarttask":
                self.move("starttaskfailed" if outcome.failure else "idle")

    def environment(self, folder: str, spec: Body) -> dict[str, str]:
        """Return the environment of a start task or task, as far as the node decides it."""
        root = self.disk.root
        asked = {s["name"]: s.get("value", "") for s in spec.get("environmentSettings", [])}
        return {
            "SPARK_LOCAL_IP": self.address,
            **self.service.settings.image_environment,
            **asked,
            "AZ_BATCH_ACCOUNT_NAME": self.service.account,
            "AZ_BATCH_ACCOUNT_URL": self.service.url,
            "AZ_BATCH_POOL_ID": self.pool.id,
            "AZ_BATCH_NODE_ID": self.id,
            "AZ_BATCH_NODE_IS_DEDICATED": str(self.dedicated).lower(),
            "AZ_BATCH_NODE_ROOT_DIR": root,
            "AZ_BATCH_NODE_SHARED_DIR": f"{root}/shared",
            "AZ_BATCH_NODE_STARTUP_DIR": f"{root}/{STARTUP}",
            "AZ_BATCH_TASK_DIR": f"{root}/{folder}",
            "AZ_BATCH_TASK_WORKING_DIR": f"{root}/{folder}/wd",
        }

    def marker(self, folder: str | None = None) -> dict[str, str]:
        """Return what tells the processes of this node, or of one run on it, from all others."""
        marker = {"AZ_BATCH_ACCOUNT_URL": self.service.url, "AZ_BATCH_NODE_ID": self.id}
        return marker | ({"AZ_BATCH_TASK_DIR": f"{self.disk.root}/{folder}"} if folder else {})

    # --------------------------------------------------------------------- tasks

    def take(self, task: "Task", run: Run, slots: int) -> None:
        """Run a task here."""
        self.runs[run], self.slots[run] = task, slots
        self.totals[0] += 1
        if self.state == "idle":
            self.move("running")
        run.start()

    def release(self, run: Run, success: bool = False) -> None:
        """Forget a run that ended."""
        self.totals[1] += success
        self.runs.pop(run, None)
        self.slots.pop(run, None)
        if self.state == "running" and not self.runs:
            self.move("idle")

    def lose(self, state: str) -> None:
        """Kill everything at once; the tasks go back into the queue."""
        self.move(state)
        for run in [*self.runs, *([self.start_run] if self.start_run else [])]:
            run.cancel()
        processes.kill(self.marker())
        for run, task in list(self.runs.items()):
            self.release(run)
            task.requeue()
        self.start_run = None

    def preempt(self) -> None:
        """Take the machine away; raises ValueError for a dedicated node."""
        if self.dedicated:
            raise ValueError(f"{self.id} is dedicated: only Spot nodes are preempted")
        if self.state == "leavingpool":
            self.lose("leavingpool")
            return
        self.lose("preempted")
        self.disk.wipe()
        self.due = self.service.clock.now() + self.service.settings.allocation

    def leave(self, option: str) -> None:
        """Go out of the pool: requeue, terminate, or let tasks complete."""
        if option in ("taskcompletion", "retaineddata"):
            self.move("leavingpool")
            return
        tasks = list(self.runs.values())
        self.lose("leavingpool")
        if option == "terminate":
            for task in tasks:
                task.end_by_user()

    # --------------------------------------------------------------------- wire

    def view(self) -> Body:
        """Return the node's body."""
        body: Body = {
            "id": self.id,
            "url": self.url,
            "state": self.state,
            "schedulingState": "enabled",
            "stateTransitionTime": wire.timestamp(self.since),
            "allocationTime": wire.timestamp(self.allocated),
            "ipAddress": self.address,
            "affinityId": f"TVM:{self.id}",
            "vmSize": self.pool.spec["vmSize"],
            "totalTasksRun": self.totals[0],
            "totalTasksSucceeded": self.totals[1],
            "runningTasksCount": len(self.runs),
            "runningTaskSlotsCount": sum(self.slots.values()),
            "isDedicated": self.dedicated,
        }
        if self.booted and self.state not in ("creating", "preempted"):
            body["lastBootTime"] = wire.timestamp(self.booted)
            agent = {"version": "1.12.0", "lastUpdateTime": wire.timestamp(self.booted)}
            body["nodeAgentInfo"] = agent
        if "startTask" in self.pool.spec:
            body["startTask"] = self.pool.spec["startTask"]
        if self.start_info:
            body["startTaskInfo"] = self.start_info
        if image := self.pool.spec.get("virtualMachineConfiguration", {}).get("imageReference"):
            body["virtualMachineInfo"] = {"imageReference": image}
        if errors := self._errors():
            body["errors"] = errors
        return body

    def _errors(self) -> list[Body]:
        if self.state == "unusable":
            text = "The node is unusable: its agent does not answer"
            return [{"code": "NodeStateUnusable", "message": text}]
        if self.state == "starttaskfailed" and self.start_info:
            failed = self.start_info["failureInfo"]
            return [{"code": failed["code"], "message": failed["message"]}]
        return []

    @property
    def url(self) -> str:
        """Where the service shows the node."""
        return f"{self.service.url}/pools/{self.pool.id}/nodes/{self.id}"


def ended_fields(outcome: Outcome, now: datetime) -> Body:
    """Return the fields of an executionInfo or startTaskInfo that has ended."""
    fields: Body = {"state": "completed", "endTime": wire.timestamp(now)}
    if outcome.code is not None:
        fields["exitCode"] = outcome.code
    fields["result"] = "failure" if outcome.failure else "success"
    if outcome.failure:
        fields["failureInfo"] = outcome.failure
    return fields


def counts(nodes: list[Node]) -> Body:
    """Return how many nodes there are in each state."""
    found = {name: sum(n.state == name.lower() for n in nodes) for name in COUNTED}
    return {**found, "total": len(nodes)}
