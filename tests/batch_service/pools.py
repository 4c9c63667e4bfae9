"""A pool: how many nodes it wants, how it gets them, and its autoscale formula."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.batch_service import formula, syntax, wire
from tests.batch_service.nodes import WORKING, Node, counts
from tests.batch_service.resources import Resource, at_least, checked, positive
from tests.batch_service.samples import Samples
from tests.batch_service.wire import BatchError, Body

if TYPE_CHECKING:
    from tests.batch_service.service import BatchService

DEFAULTS: Body = {
    "resizeTimeout": "PT15M",
    "enableAutoScale": False,
    "enableInterNodeCommunication": False,
    "taskSlotsPerNode": 1,
    "taskSchedulingPolicy": {"nodeFillType": "spread"},
    "targetDedicatedNodes": 0,
    "targetLowPriorityNodes": 0,
}
START_TASK: Body = {
    "userIdentity": {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}},
    "maxTaskRetryCount": 0,
    "waitForSuccess": True,
}
LEAST_INTERVAL = timedelta(minutes=5)
TARGETS = ("targetDedicatedNodes", "targetLowPriorityNodes")
DEALLOCATION = ("requeue", "terminate", "taskcompletion", "retaineddata")
LOST = ("unusable", "starttaskfailed", "preempted")


def pool_spec(body: object) -> Body:
    """Return a pool's body with what the service adds; raises BatchError."""
    spec = DEFAULTS | checked(body, "vmSize", "virtualMachineConfiguration")
    positive(spec, *TARGETS, "taskSlotsPerNode")
    at_least(spec, "resizeTimeout", LEAST_INTERVAL)
    if "startTask" in spec:
        spec["startTask"] = START_TASK | checked(spec["startTask"], "commandLine")
    if spec["enableAutoScale"]:
        _check_autoscale(spec)
        if any(spec[name] for name in TARGETS):
            raise BatchError("InvalidPropertyValue", PropertyName="targetDedicatedNodes")
    return spec


def _check_autoscale(spec: Body) -> None:
    """Check formula and interval, and give the interval its default."""
    checked(spec, "autoScaleFormula")
    spec.setdefault("autoScaleEvaluationInterval", "PT15M")
    at_least(spec, "autoScaleEvaluationInterval", LEAST_INTERVAL)
    try:
        syntax.parse(spec["autoScaleFormula"])
    except syntax.FormulaError as error:
        raise BatchError("AutoScalingFormulaSyntaxError", Reason=str(error)) from None


class Pool(Resource):
    """Nodes, and the wish to have more or fewer of them."""

    def __init__(self, service: "BatchService", name: str, spec: Body) -> None:
        super().__init__(name, spec, service.clock.now(), "active")
        self.service = service
        self.nodes: dict[str, Node] = {}
        self.samples = Samples(service.settings.sample_seconds, self.created)
        self.allocation = "steady"
        self.allocation_since = self.created
        self.resize_until = self.created
        self.resize_errors: list[Body] = []
        self.option = "requeue"
        self.next_evaluation: datetime | None = self.created
        self.autoscale_run: Body | None = None
        self._allocate_at = self.created
        self._aim(spec["targetDedicatedNodes"], spec["targetLowPriorityNodes"])

    def of(self, dedicated: bool) -> list[Node]:
        """Return the dedicated or the Spot nodes that stay."""
        return [
            node
            for node in self.nodes.values()
            if node.dedicated == dedicated and node.state != "leavingpool"
        ]

    # --------------------------------------------------------------------- size

    def resize(self, body: object) -> None:
        """Begin to grow or shrink, as a client asks."""
        asked = checked(body)
        positive(asked, *TARGETS)
        if self.spec["enableAutoScale"]:
            raise BatchError("OperationInvalidForCurrentState", Reason="autoscale is enabled")
        if self.allocation != "steady":
            raise BatchError("PoolBeingResized")
        if not any(name in asked for name in TARGETS):
            raise BatchError("MissingRequiredProperty", PropertyName=TARGETS[0])
        at_least(asked, "resizeTimeout", LEAST_INTERVAL)
        self._set_option(asked)
        wanted = self.spec | asked
        self._aim(wanted[TARGETS[0]], wanted[TARGETS[1]], asked.get("resizeTimeout"))

    def _set_option(self, asked: Body) -> None:
        option = asked.get("nodeDeallocationOption", "requeue").lower()
        if option not in DEALLOCATION:
            raise BatchError("InvalidPropertyValue", PropertyName="nodeDeallocationOption")
        self.option = option

    def _aim(self, dedicated: int, spot: int, timeout: str | None = None) -> None:
        """Set new targets and begin to go there."""
        now = self.service.clock.now()
        self.spec |= dict(zip(TARGETS, (dedicated, spot), strict=True))
        limit = wire.parse_duration(timeout or self.spec["resizeTimeout"])
        self.resize_until = now + (limit or timedelta(days=3650))
        self.resize_errors = []
        self.changed(now)
        if self._missing(True) or self._missing(False):
            self._allocate_at = now + self.service.settings.allocation
            self._allocation("resizing")

    def _allocation(self, state: str) -> None:
        self.allocation, self.allocation_since = state, self.service.clock.now()
        self.service.wake()

    def _missing(self, dedicated: bool) -> int:
        """Return how many nodes are lacking; negative where there are too many."""
        return int(self.spec[TARGETS[not dedicated]]) - len(self.of(dedicated))

    def stop_resize(self) -> None:
        """Stop growing; what is there stays."""
        if self.allocation == "resizing":
            self._allocate_at = self.service.clock.now() + self.service.settings.allocation
            self._allocation("stopping")

    def remove_nodes(self, body: object) -> None:
        """Take named nodes out."""
        asked = checked(body, "nodeList")
        if self.allocation != "steady":
            raise BatchError("PoolBeingResized")
        chosen = [self.node(name) for name in asked["nodeList"]]
        self._set_option(asked)
        for node in chosen:
            self.spec[TARGETS[not node.dedicated]] -= 1
            node.leave(self.option)
        self._allocation("resizing")

    def node(self, name: str) -> Node:
        """Return a node; raises BatchError where there is none."""
        if name not in self.nodes:
            raise BatchError("NodeNotFound")
        return self.nodes[name]

    def remove(self, node: Node) -> None:
        """Forget a node that is free of tasks."""
        node.lose("leavingpool")
        node.disk.wipe()
        self.nodes.pop(node.id, None)

    def delete(self) -> None:
        """Begin to go away."""
        self.move("deleting", self.service.clock.now())
        for node in list(self.nodes.values()):
            node.leave("requeue")

    # --------------------------------------------------------------------- time

    def step(self, now: datetime) -> None:
        """Do what is due."""
        for node in list(self.nodes.values()):
            node.step(now)
        if self.state == "deleting":
            if not self.nodes:
                self.service.pools.pop(self.id, None)
            return
        self.samples.record(now, self.metrics())
        if self.spec["enableAutoScale"] and self.next_evaluation and now >= self.next_evaluation:
            interval = wire.parse_duration(self.spec["autoScaleEvaluationInterval"])
            assert interval is not None
            self.next_evaluation = now + interval
            self.autoscale()
        if self.allocation != "steady" and now >= self._allocate_at:
            self._allocate(now)

    def due(self) -> list[datetime]:
        """Return when something may happen next."""
        found = [node.due for node in self.nodes.values()]
        if self.allocation != "steady":
            found += [self._allocate_at, self.resize_until]
        if self.spec["enableAutoScale"] and self.next_evaluation:
            found.append(self.next_evaluation)
        return found

    def _allocate(self, now: datetime) -> None:
        """Make and drop nodes, and see whether the resize has come to its end."""
        if self.allocation == "stopping":
            for dedicated, name in zip((True, False), TARGETS, strict=True):
                self.spec[name] = len(self.of(dedicated))
            self._steady(
                [
                    _resize_error(
                        "ResizeStopped",
                        "Desired number of nodes could not be "
                        "allocated as the resize operation was stopped",
                    )
                ]
            )
            return
        for dedicated in (True, False):
            while self._missing(dedicated) > 0 and self.service.has_room(dedicated):
                node = Node(self.service, self, dedicated, self.service.take_broken())
                self.nodes[node.id] = node
            for node in self._surplus(dedicated):
                node.leave(self.option)
        if not self._missing(True) and not self._missing(False):
            if all(node.state != "leavingpool" for node in self.nodes.values()):
                self._steady([])
        elif now >= self.resize_until:
            text = "Desired number of nodes could not be allocated within the resize timeout"
            self._steady([_resize_error("AllocationTimedOut", text)])

    def _steady(self, errors: list[Body]) -> None:
        self.resize_errors = errors
        self._allocation("steady")

    def _surplus(self, dedicated: bool) -> list[Node]:
        """Return the nodes to give back: lost ones first, then idle ones, then the youngest."""
        number = max(0, -self._missing(dedicated))
        youngest = self.of(dedicated)[::-1]
        return sorted(youngest, key=lambda n: (n.state not in LOST, len(n.runs)))[:number]

    # --------------------------------------------------------------------- autoscale

    def enable_autoscale(self, body: object) -> None:
        """Take a new formula or interval."""
        asked = checked(body)
        names = ("autoScaleFormula", "autoScaleEvaluationInterval")
        spec = {name: self.spec[name] for name in names if name in self.spec} | asked
        _check_autoscale(spec)
        self.spec |= {**{name: spec[name] for name in names}, "enableAutoScale": True}
        now = self.service.clock.now()
        self.next_evaluation = now
        self.changed(now)

    def disable_autoscale(self) -> None:
        """Keep the size that the formula gave last."""
        self.spec["enableAutoScale"] = False
        self.changed(self.service.clock.now())

    def evaluate(self, text: str) -> Body:
        """Return what a formula says now, without doing it."""
        now = self.service.clock.now()
        run: Body = {"timestamp": wire.timestamp(now)}
        start = {
            "$TargetDedicatedNodes": self.spec[TARGETS[0]],
            "$TargetLowPriorityNodes": self.spec[TARGETS[1]],
            "$NodeDeallocationOption": "requeue",
        }
        try:
            found = formula.evaluate(text, start, self.metrics(), self.samples, now)
            run["results"] = formula.results(found)
        except syntax.FormulaError as error:
            code = "AutoScalingFormulaEvaluationError"
            run["error"] = {"code": code, "message": str(error), "values": []}
        return run

    def autoscale(self) -> Body:
        """Evaluate the pool's formula and follow it."""
        self.autoscale_run = run = self.evaluate(self.spec["autoScaleFormula"])
        if "error" not in run:
            found = formula.targets(run["results"])
            self.option = found["$NodeDeallocationOption"]
            asked = [int(found[f"${name[0].upper()}{name[1:]}"]) for name in TARGETS]
            if asked != [self.spec[name] for name in TARGETS]:
                self._aim(asked[0], asked[1])
        return run

    def metrics(self) -> dict[str, float]:
        """Return the variables of the formula language as they are now."""
        nodes = list(self.nodes.values())
        return {
            **self.service.task_metrics(self.id),
            "$CurrentDedicatedNodes": float(sum(node.dedicated for node in nodes)),
            "$CurrentLowPriorityNodes": float(sum(not node.dedicated for node in nodes)),
            "$PreemptedNodeCount": float(sum(node.state == "preempted" for node in nodes)),
            "$UsableNodeCount": float(sum(node.state in WORKING for node in nodes)),
            "$TaskSlotsPerNode": float(self.spec["taskSlotsPerNode"]),
        }

    # --------------------------------------------------------------------- wire

    def update(self, body: object) -> None:
        """Change properties, as PATCH does."""
        asked = checked(body)
        if "startTask" in asked:
            asked["startTask"] = START_TASK | checked(asked["startTask"], "commandLine")
        self.spec |= asked
        self.changed(self.service.clock.now())

    def view(self) -> Body:
        """Return the pool's body."""
        nodes = list(self.nodes.values())
        body = {
            **self.heading(f"{self.service.url}/pools/{self.id}"),
            "allocationState": self.allocation,
            "allocationStateTransitionTime": wire.timestamp(self.allocation_since),
            "currentDedicatedNodes": sum(node.dedicated for node in nodes),
            "currentLowPriorityNodes": sum(not node.dedicated for node in nodes),
            **self.spec,
        }
        if self.resize_errors:
            body["resizeErrors"] = self.resize_errors
        if self.autoscale_run:
            body["autoScaleRun"] = self.autoscale_run
        return body

    def count(self) -> Body:
        """Return the nodes in each state."""
        nodes = list(self.nodes.values())
        return {
            "poolId": self.id,
            "dedicated": counts([node for node in nodes if node.dedicated]),
            "lowPriority": counts([node for node in nodes if not node.dedicated]),
        }


def _resize_error(code: str, text: str) -> Body:
    return {"code": code, "message": text, "values": []}
