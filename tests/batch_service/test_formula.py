"""The autoscale formula language, and pools that follow a formula."""

from datetime import UTC, datetime, timedelta

import pytest
from azure.batch import BatchClient
from azure.batch.models import (
    BatchJobCreateOptions,
    BatchPoolEnableAutoScaleOptions,
    BatchPoolEvaluateAutoScaleOptions,
    BatchPoolInfo,
    BatchTaskCreateOptions,
)
from azure.core.exceptions import HttpResponseError

from tests.batch_service import clients, formula
from tests.batch_service.clients import until
from tests.batch_service.samples import Samples
from tests.batch_service.service import BatchService
from tests.batch_service.syntax import FormulaError

NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
# Microsoft's own example, for Spot nodes.
FOLLOW = """
// as many nodes as tasks
startingNumberOfVMs = 0; maxNumberofVMs = 3;
pendingTaskSamplePercent = $PendingTasks.GetSamplePercent(180 * TimeInterval_Second);
pendingTaskSamples = pendingTaskSamplePercent < 70 ? startingNumberOfVMs :
    avg($PendingTasks.GetSample(180 * TimeInterval_Second));
$TargetLowPriorityNodes = max(0, min(maxNumberofVMs,
    pendingTaskSamples + $PreemptedNodeCount.GetSample(1)));
$NodeDeallocationOption = taskcompletion;
"""


def samples(*values: float) -> Samples:
    """Return samples of two variables, the last of them now."""
    found = Samples(30, NOW - timedelta(seconds=30 * (len(values) - 1)))
    for place, value in enumerate(values):
        time = NOW - timedelta(seconds=30 * (len(values) - 1 - place))
        found.record(time, {"$PendingTasks": value, "$PreemptedNodeCount": value / 10})
    return found


def value_of(text: str, *history: float) -> object:
    """Return what `x` is after a formula."""
    metrics = {"$PendingTasks": 5.0, "$PreemptedNodeCount": 0.0}
    return formula.evaluate(text, {}, metrics, samples(*history), NOW)["x"]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("x = 1 + 2 * 3 - 4 / 2", 5),
        ("x = (1 + 2) * -3", -9),
        ("x = 10 - 3 - 2", 5),
        ("x = 1 < 2 && !(2 <= 1) || 0", 1),
        ("x = 1 > 2 ? 10 : 2 >= 2 ? 20 : 30", 20),
        ("x = 1 == 1 ? 2 != 2 : 7", 0),
        ("y = 4; x = y / 8; // half", 0.5),
        ("$y = 2;\n$z = 3;\nx = $y * $z;", 6),
        ("x = max(1, min(9, 4), 3)", 4),
        ("x = avg(1, 2, 6) + sum(1, 2) + len(vec(1, 2, 3))", 9),
        ("x = ceil(1.2) + floor(1.8) + round(2.5) + round(0 - 2.5)", 3),
        ("x = std(2, 4) * std(2, 4) + norm(3, 4) + range(5, 1, 9)", 15),
        ("x = percentile(vec(1, 2, 3, 4, 5), 50) + val(vec(7, 8), 1)", 11),
        ("x = lg(8) + ln(1) + log(100)", 5),
        ("x = vec(1, 2) + 1", [2, 3]),
        ("x = 2 * vec(1, 2) - vec(1, 1)", [1, 3]),
        ("x = time()", NOW),
        ('x = time() - time("2026-11-25T09:00:00Z")', timedelta(minutes=30)),
        ("x = TimeInterval_Minute * 5 == 300 * TimeInterval_Second", 1),
        ("x = 5; stop(); x = 6", 5),
        ("x = $PendingTasks", 5),
        ("x = $PendingTasks.GetSample(2)", [3, 4]),
        ("x = $PendingTasks.GetSample(60 * TimeInterval_Second)", [3, 4]),
        ("x = $PendingTasks.GetSample(TimeInterval_Minute * 2, TimeInterval_Minute)", [1, 2]),
        ("x = avg($PendingTasks.GetSample(TimeInterval_Minute * 2)) + 1", 3.5),
        ("x = $PendingTasks.GetSamplePercent(TimeInterval_Minute * 2)", 100),
        ("x = $PendingTasks.GetSamplePercent(TimeInterval_Minute * 5)", 50),
        ("x = 1 + max($PreemptedNodeCount.GetSample(1))", 1.4),
        ("x = sum($PendingTasks.GetSample(TimeInterval_Minute * 2, 90))", 10),
    ],
)
def test_the_language_computes(text: str, result: object) -> None:
    assert value_of(text, 0, 1, 2, 3, 4) == (
        pytest.approx(result) if isinstance(result, float | int) else result
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = y", "y is not known"),
        ("x = $Unknown.GetSample(1)", "methods"),
        ("x = abs(1)", "no function abs"),
        ("x = $PendingTasks.Latest(1)", "no method Latest"),
        ("x = $PendingTasks.GetSample(TimeInterval_Hour, 70)", "fewer than 70"),
        ("x = avg($PendingTasks.GetSample(TimeInterval_Second * 0))", "no values"),
        ("x = 1 / 0", "cannot be computed"),
        ("x = 1 + TimeInterval_Second", "cannot be computed"),
        ("$PendingTasks = 1", "read-only"),
        ("$TargetDedicatedNodes = 0 - 1", "number from 0"),
        ("$NodeDeallocationOption = 3", "one of requeue"),
        ("x = (1", "expected"),
        ("x 1", "expected '='"),
        ("x = 1 y = 2", "expected ';'"),
        ("x = 1 # 2", "unexpected character '#'"),
        ("", "empty"),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str) -> None:
    with pytest.raises(FormulaError, match=reason):
        value_of(text, 0, 1, 2, 3, 4)


def scaled(client: BatchClient, text: str = FOLLOW) -> None:
    """Make a pool that follows a formula, and a job."""
    clients.pool(client, enable_auto_scale=True, auto_scale_formula=text)
    client.create_job(BatchJobCreateOptions(id="job", pool_info=BatchPoolInfo(pool_id="pool")))


def nodes(client: BatchClient) -> list[str]:
    return [str(node.state.value) for node in client.list_nodes("pool")]


def test_a_pool_grows_with_pending_tasks_and_goes_back_to_zero(
    service: BatchService, client: BatchClient
) -> None:
    scaled(client)
    for number in range(5):
        task = BatchTaskCreateOptions(id=f"t{number}", command_line="/bin/sleep 600")
        client.create_task("job", task)
    service.clock.advance(60)
    assert client.get_pool("pool").target_low_priority_nodes == 0
    service.clock.advance(15 * 60)
    assert client.get_pool("pool").target_low_priority_nodes == 3
    until(lambda: nodes(client) == ["running"] * 3)
    for number in range(5):
        client.terminate_task("job", f"t{number}")
    service.clock.advance(31 * 60)
    until(lambda: nodes(client) == [])
    run = client.get_pool("pool").auto_scale_run
    assert "$TargetLowPriorityNodes=0;$NodeDeallocationOption=taskcompletion" in run.results
    assert "maxNumberofVMs=3" in run.results


def test_preempted_nodes_are_added_to_the_target(
    service: BatchService, client: BatchClient
) -> None:
    scaled(client)
    client.create_task("job", BatchTaskCreateOptions(id="t", command_line="/bin/sleep 600"))
    service.clock.advance(16 * 60)
    until(lambda: nodes(client) == ["running"])
    service.capacity = 0
    service.preempt("pool", next(iter(client.list_nodes("pool"))).id)
    service.clock.advance(16 * 60)
    assert client.get_pool("pool").target_low_priority_nodes == 2
    service.capacity = None
    until(lambda: sorted(nodes(client)) == ["idle", "running"])


def test_tasks_complete_before_their_node_goes(service: BatchService, client: BatchClient) -> None:
    scaled(client, "$TargetLowPriorityNodes = 1; $NodeDeallocationOption = taskcompletion;")
    client.create_task("job", BatchTaskCreateOptions(id="t", command_line="/bin/sleep 600"))
    until(lambda: nodes(client) == ["running"])
    fewer = "$TargetLowPriorityNodes = 0; $NodeDeallocationOption = taskcompletion;"
    client.enable_pool_auto_scale("pool", BatchPoolEnableAutoScaleOptions(auto_scale_formula=fewer))
    until(lambda: nodes(client) == ["leavingpool"])
    service.clock.advance(60)
    assert client.get_task("job", "t").state == "running"
    client.terminate_task("job", "t")
    until(lambda: nodes(client) == [])


def test_a_test_may_evaluate_at_once(service: BatchService, client: BatchClient) -> None:
    scaled(client, "$TargetLowPriorityNodes = max(0, $PendingTasks);")
    client.create_task("job", BatchTaskCreateOptions(id="t", command_line="/bin/true"))
    assert "$TargetLowPriorityNodes=1" in service.evaluate("pool")["results"]
    until(lambda: client.get_task("job", "t").state == "completed")


def test_errors_of_evaluation_are_reported_and_of_syntax_refused(
    service: BatchService, client: BatchClient
) -> None:
    scaled(client, "$TargetDedicatedNodes = none;")
    run = until(lambda: client.get_pool("pool").auto_scale_run)
    assert "none is not known" in run.error.message
    options = BatchPoolEvaluateAutoScaleOptions(auto_scale_formula="$TargetDedicatedNodes=2;")
    found = client.evaluate_pool_auto_scale("pool", options).results
    assert found.startswith("$TargetDedicatedNodes=2;$TargetLowPriorityNodes=0;")
    with pytest.raises(HttpResponseError) as refused:
        wrong = BatchPoolEnableAutoScaleOptions(auto_scale_formula="= 3")
        client.enable_pool_auto_scale("pool", wrong)
    assert refused.value.error.code == "AutoScalingFormulaSyntaxError"
    with pytest.raises(HttpResponseError) as refused:
        client.begin_resize_pool("pool", {"targetDedicatedNodes": 1})
    assert refused.value.error.code == "OperationInvalidForCurrentState"
    short = {"autoScaleFormula": "$x = 1", "autoScaleEvaluationInterval": "PT1M"}
    with pytest.raises(HttpResponseError) as refused:
        client.enable_pool_auto_scale("pool", short)
    assert refused.value.error.code == "InvalidPropertyValue"
