"""The pool's autoscale formula: as many nodes as tasks wait or run, none where there are none."""

from datetime import timedelta

from deploy.azure_batch.config import Pool

# Batch evaluates a formula every five minutes at the most.
INTERVAL = timedelta(minutes=5)
WINDOW_SECONDS = 180


def formula(pool: Pool) -> str:
    """Write the formula.

    It counts tasks over a short window, so that one quiet sample does not remove nodes, and takes
    the newest sample where it is higher, so that a new job need not wait for the window. A Spot
    node that was taken away stays in the pool's count until another takes its place: it is added
    to the target. A node goes only when its task has ended.

    Each job has one driver. Where drivers have dedicated nodes, there is one for every so many
    pending tasks as a job has, at most `max_drivers`; workers get what is left of `max_nodes`.
    """
    window = f"TimeInterval_Second * {WINDOW_SECONDS}"
    lines = [
        f"most = {pool.max_nodes};",
        f"seen = $PendingTasks.GetSamplePercent({window});",
        "newest = max(0, $PendingTasks.GetSample(1));",
        f"pending = seen < 70 ? newest : max(newest, avg($PendingTasks.GetSample({window})));",
        *_targets(pool),
        "$NodeDeallocationOption = taskcompletion;",
    ]
    return "\n".join(lines)


def _targets(pool: Pool) -> list[str]:
    """Share the pending tasks out over dedicated and Spot nodes."""
    if pool.dedicated == pool.nodes:
        return ["$TargetDedicatedNodes = min(most, ceil(pending));", "$TargetLowPriorityNodes = 0;"]
    most_drivers = min(pool.max_drivers, pool.max_nodes) if pool.dedicated else 0
    return [
        f"drivers = min({most_drivers}, ceil(pending / {pool.nodes}));",
        "gone = pending > 0 ? max(0, $PreemptedNodeCount.GetSample(1)) : 0;",
        "workers = ceil(pending) - drivers + gone;",
        "$TargetDedicatedNodes = drivers;",
        "$TargetLowPriorityNodes = max(0, min(most - drivers, workers));",
    ]
