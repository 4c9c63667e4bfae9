"""The formula's text, worked out by the stand-in's interpreter of the documented language."""

from datetime import UTC, datetime, timedelta

import pytest

from deploy.azure_batch.config import Pool
from deploy.cluster.formula import formula
from tests.batch_service import formula as language
from tests.batch_service.samples import Samples

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def targets(pool: Pool, pending: float, preempted: float = 0.0) -> tuple[int, int]:
    """Return dedicated and Spot nodes that a pool aims at where so many tasks have been pending."""
    metrics = {"$PendingTasks": pending, "$PreemptedNodeCount": preempted}
    samples = Samples(30.0, NOW - timedelta(minutes=10))
    for step in range(21):
        samples.record(NOW - timedelta(seconds=30 * (20 - step)), metrics)
    start = {
        "$TargetDedicatedNodes": 0,
        "$TargetLowPriorityNodes": 0,
        "$NodeDeallocationOption": "requeue",
    }
    found = language.evaluate(formula(pool), start, metrics, samples, NOW)
    assert found["$NodeDeallocationOption"] == "taskcompletion"
    return int(found["$TargetDedicatedNodes"]), int(found["$TargetLowPriorityNodes"])


MIXED = Pool(driver="dedicated", workers=2, max_nodes=8, max_drivers=2)


@pytest.mark.parametrize(
    ("pending", "wanted"),
    [(0, (0, 0)), (1, (1, 0)), (3, (1, 2)), (6, (2, 4)), (9, (2, 6)), (30, (2, 6))],
)
def test_a_dedicated_driver_a_job_and_spot_nodes_for_the_rest(
    pending: int, wanted: tuple[int, int]
) -> None:
    assert targets(MIXED, pending) == wanted


def test_a_preempted_node_is_replaced_within_the_limit() -> None:
    assert targets(MIXED, 3, preempted=1) == (1, 3)
    assert targets(MIXED, 30, preempted=5) == (2, 6)
    assert targets(MIXED, 0, preempted=2) == (0, 0)


def test_a_spot_driver_needs_no_dedicated_node() -> None:
    assert targets(Pool(driver="spot", max_nodes=4), 3) == (0, 3)


def test_dedicated_workers_leave_no_spot_nodes() -> None:
    assert targets(Pool(low_priority=False, max_nodes=4), 9) == (4, 0)
    assert targets(Pool(workers=0, max_nodes=4), 2) == (2, 0)
