"""All of the service but its wire: pools, jobs, schedules, and the thread that moves them."""

import base64
import secrets
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.batch_service import processes
from tests.batch_service.auth import Gate
from tests.batch_service.clock import Clock
from tests.batch_service.faults import Faults
from tests.batch_service.jobs import Job
from tests.batch_service.nodes import WORKING, Node
from tests.batch_service.pools import Pool, pool_spec
from tests.batch_service.resources import Resource
from tests.batch_service.schedules import Schedule
from tests.batch_service.tasks import Task
from tests.batch_service.wire import BatchError, Body

LOOK = 0.05


@dataclass(frozen=True)
class Settings:
    """What a test decides when it starts the service.

    Attributes:
        image_environment: what the machine image and its identity give every process.
        allocation_seconds: until a wished or replaced node begins to exist.
        boot_seconds: that it spends in each of `creating` and `starting`.
        sample_seconds: between two samples of the variables of autoscale formulas.
        first_address: of the nodes; the others follow.
    """

    image_environment: Mapping[str, str] = field(default_factory=dict)
    allocation_seconds: float = 0.2
    boot_seconds: float = 0.05
    sample_seconds: float = 30.0
    first_address: str = "127.0.0.2"

    @property
    def allocation(self) -> timedelta:
        """The same as a timedelta."""
        return timedelta(seconds=self.allocation_seconds)

    @property
    def boot(self) -> timedelta:
        """The same as a timedelta."""
        return timedelta(seconds=self.boot_seconds)


class BatchService:
    """The state of a Batch account.

    Attributes:
        url: of the account.
        account: its name.
        key: its key, in base64.
        clock: the time; `clock.advance(seconds)` lets it pass.
        faults: requests to spoil.
        requests: (method, path, body) of all that came.
        capacity: how many Spot nodes there can be in all, None for any number.
        dedicated_capacity: the same for dedicated nodes.
        isolated: whether nodes see only their own disk and processes.
    """

    def __init__(self, folder: Path, settings: Settings, url: str) -> None:
        self.folder = folder.resolve()
        self.settings = settings
        self.url = url
        self.account = "standin"
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.gate = Gate(self.account, self.key)
        self.faults = Faults()
        self.requests: list[tuple[str, str, object]] = []
        self.capacity: int | None = None
        self.dedicated_capacity: int | None = None
        self.isolated = processes.can_isolate()
        self.pools: dict[str, Pool] = {}
        self.jobs: dict[str, Job] = {}
        self.schedules: dict[str, Schedule] = {}
        self.errors: list[BaseException] = []
        self.lock = threading.RLock()
        self.clock = Clock(self._due, self.tick)
        self._woken = threading.Event()
        self._stopping = False
        self._to_break = 0
        self._thread = threading.Thread(target=self._work, name="batch service")

    # --------------------------------------------------------------------- commands of tests

    def preempt(self, pool_id: str, node_id: str) -> None:
        """Take a Spot node away, as Azure does, but without notice; ValueError if dedicated."""
        with self.lock:
            self.pools[pool_id].nodes[node_id].preempt()

    def break_node(self, pool_id: str, node_id: str) -> None:
        """Make a node unusable; it stays so."""
        with self.lock:
            self.pools[pool_id].nodes[node_id].lose("unusable")

    def break_next_nodes(self, number: int = 1) -> None:
        """Make the next nodes unusable from their start."""
        with self.lock:
            self._to_break += number

    def evaluate(self, pool_id: str) -> Body:
        """Evaluate a pool's autoscale formula now, and follow it; returns the autoScaleRun."""
        with self.lock:
            pool = self.pools[pool_id]
            pool.samples.record(self.clock.now(), pool.metrics())
            return pool.autoscale()

    def running(self) -> list[int]:
        """Return the ids of all processes that nodes run now."""
        return processes.found({"AZ_BATCH_ACCOUNT_URL": self.url, "AZ_BATCH_NODE_ID": ""})

    # --------------------------------------------------------------------- parts

    def add_pool(self, name: str, spec: Body) -> Pool:
        """Take a new pool."""
        if name in self.pools:
            raise BatchError("PoolExists")
        self.pools[name] = pool = Pool(self, name, spec)
        return pool

    def add_job(self, job: Job) -> Job:
        """Take a new job."""
        self.jobs[job.id] = job
        self.wake()
        return job

    def pool_for(self, job: Job) -> str:
        """Return the id of a job's pool, and make that pool where it is the job's own."""
        auto = job.spec["poolInfo"].get("autoPoolSpecification")
        if auto is None:
            return str(job.spec["poolInfo"]["poolId"])
        owner = job.schedule if auto["poolLifetimeOption"] == "jobschedule" else None
        unique = str(uuid.uuid5(uuid.NAMESPACE_URL, owner or job.id)).upper()
        name = "_".join(filter(None, (auto.get("autoPoolIdPrefix"), unique)))
        if name not in self.pools:
            self.add_pool(name, pool_spec(auto["pool"]))
        return name

    def job_over(self, job: Job) -> None:
        """Drop a job's own pool with it."""
        auto = job.spec["poolInfo"].get("autoPoolSpecification")
        pool = self.pools.get(job.pool_id)
        if auto is None or auto["poolLifetimeOption"] != "job" or auto["keepAlive"]:
            return
        if pool and pool.state != "deleting":
            pool.delete()

    def has_room(self, dedicated: bool) -> bool:
        """Tell whether the region has one more node."""
        limit = self.dedicated_capacity if dedicated else self.capacity
        nodes = [node for pool in self.pools.values() for node in pool.nodes.values()]
        there = sum(n.dedicated == dedicated and n.state != "preempted" for n in nodes)
        return limit is None or there < limit

    def take_broken(self) -> bool:
        """Tell whether the node that is being made is a broken one, and count it."""
        broken = self._to_break > 0
        self._to_break -= broken
        return broken

    def free_address(self) -> str:
        """Return a loopback address that no node has."""
        network, _, last = self.settings.first_address.rpartition(".")
        taken = {n.address for pool in self.pools.values() for n in pool.nodes.values()}
        free = (f"{network}.{number}" for number in range(int(last), 255))
        return next(address for address in free if address not in taken)

    def task_metrics(self, pool_id: str) -> dict[str, float]:
        """Return the task variables of the formula language for a pool."""
        jobs = [job for job in self.jobs.values() if job.pool_id == pool_id]
        tasks = [task for job in jobs for task in job.tasks.values()]
        open_jobs = [job for job in jobs if job.state == "active"]
        active = sum(task.ready for job in open_jobs for task in job.tasks.values())
        running = sum(task.state == "running" for task in tasks)
        results = [task.info.get("result") for task in tasks]
        return {
            "$ActiveTasks": float(active),
            "$RunningTasks": float(running),
            "$PendingTasks": float(active + running),
            "$SucceededTasks": float(results.count("success")),
            "$FailedTasks": float(results.count("failure")),
        }

    # --------------------------------------------------------------------- time

    def wake(self) -> None:
        """Look at once whether there is something to do."""
        self._woken.set()

    def tick(self) -> None:
        """Do all that is due now."""
        with self.lock:
            now = self.clock.now()
            for resource in self._resources():
                resource.step(now)
            self._dispatch()

    def _due(self) -> datetime | None:
        """Return when something will happen, None where nothing is to come."""
        with self.lock:
            now = self.clock.now()
            times = [time for resource in self._resources() for time in resource.due()]
            return min((time for time in times if time > now), default=None)

    def _resources(self) -> list[Resource]:
        return [*self.pools.values(), *self.schedules.values(), *self.jobs.values()]

    def _dispatch(self) -> None:
        """Give tasks to nodes: by the jobs' priority, then the oldest first."""
        jobs = sorted(self.jobs.values(), key=lambda job: (-job.spec["priority"], job.created))
        for job in jobs:
            pool = self.pools.get(job.pool_id)
            if job.state != "active" or pool is None or pool.state != "active":
                continue
            for task in list(job.tasks.values()):
                running = sum(other.state == "running" for other in job.tasks.values())
                if 0 <= job.spec["maxParallelTasks"] <= running:
                    break
                node = _node_for(task, pool) if task.ready else None
                if node:
                    task.begin(node)

    def _work(self) -> None:
        """Look again and again until the service stops (its thread)."""
        while not self._stopping:
            try:
                self.tick()
            except Exception as error:
                self.errors.append(error)
            self._woken.wait(LOOK)
            self._woken.clear()

    def start(self) -> None:
        """Begin to move."""
        self._thread.start()

    def stop(self) -> None:
        """End every process; raises AssertionError where the service itself went wrong."""
        self._stopping = True
        self.wake()
        self._thread.join()
        with self.lock:
            for pool in self.pools.values():
                for node in pool.nodes.values():
                    node.lose("unusable")
        assert not self.running(), f"processes {self.running()} are left"
        assert not self.errors, f"the service failed: {self.errors}"


def _node_for(task: Task, pool: Pool) -> Node | None:
    """Return the node that is to run a task: the least loaded, or the most where tasks pack."""
    nodes = [n for n in pool.nodes.values() if n.state in WORKING and task.may_run_on(n)]
    pack = pool.spec["taskSchedulingPolicy"]["nodeFillType"].lower() == "pack"
    nodes.sort(key=lambda node: sum(node.slots.values()), reverse=pack)
    return nodes[0] if nodes else None
