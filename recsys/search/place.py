"""Where trials run: one task each, several at once; or one after another over the whole pool."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from recsys.data.dataset import Fold, History
from recsys.errors import RecsysError
from recsys.models import ALGORITHMS
from recsys.models.base import Hyperparameters
from recsys.search.goal import Goal
from recsys.search.space import Point, Space
from recsys.search.trial import FAILED, Outcome, Recipe, Rung, run_trial
from recsys.session import HERE, cores_of, run_tasks

# Of the memory that is free now; the driver, the JVM and the system grow, too.
SHARE = 0.7
# A Python worker with its imports and compiled kernels.
WORKER_BYTES = 400 << 20
# While events are weighed: columns, days, weights, and their copies.
BYTES_AN_EVENT = 64
GIB = 1 << 30
JOBS = "recsys-search"


@dataclass(frozen=True)
class Placing:
    """Where trials run.

    Attributes:
        at_once: trials at work at once.
        whole_pool: whether one trial has the whole pool.
        why: in words.
    """

    at_once: int
    whole_pool: bool
    why: str


def place(
    spark: SparkSession, history: History, largest: list[tuple[str, Hyperparameters]], at_once: int
) -> Placing:
    """Decide from what a trial needs and what the pool's smallest node has free.

    Args:
        spark: the session.
        history: what is fitted.
        largest: each recommender with the hyperparameters that need most.
        at_once: trials at once that are asked for.
    """
    need = max(bytes_of(name, parameters, history) for name, parameters in largest)
    free: dict[str, int] = {}
    for host, available in run_tasks(spark, _available, range(4 * cores_of(spark))):
        free[host] = min(available, free.get(host, available))
    beside = -(-at_once // len(free))
    room = SHARE * min(free.values())
    said = f"a trial needs about {need / GIB:.1f} GiB, {room / GIB:.1f} GiB may be used" + (
        " a node" if len(free) > 1 else ""
    )
    fitting = int(room // need)
    if fitting == 0:
        return Placing(1, True, f"{said}: one trial after another, each over the whole pool")
    if fitting < beside:
        # Spark may put all of them on one node.
        return Placing(fitting, False, f"{said}: {fitting} at once, a task each")
    return Placing(at_once, False, f"{said}: {at_once} at once, a task each")


def bytes_of(algorithm: str, parameters: Hyperparameters, history: History) -> int:
    """Estimate what a trial holds in memory.

    Blocks are mapped files, of which the system drops what it needs elsewhere; what is counted is
    what a task allocates, and the arrays that it goes through again and again.
    """
    rows = history.customers + history.items
    events = sum(history.customer_blocks.events)
    row_bytes = ALGORITHMS[algorithm](parameters).bytes_a_row()
    return WORKER_BYTES + events * BYTES_AN_EVENT + rows * row_bytes


def _available(_: Any) -> tuple[str, int]:
    """Return this node's name and its free memory, of which the page cache is part."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        known = dict(line.split(":", 1) for line in lines)
        free = int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return os.uname().nodename, free


def launcher(
    spark: SparkSession, fold: Fold, space: Space, goal: Goal, placing: Placing
) -> Callable[[int, Point, Rung | None], Outcome]:
    """Return what runs one trial, to be called from several threads at once.

    Args:
        spark: the session.
        fold: that trials are fitted and judged on.
        space: that points are of.
        goal: what is asked for.
        placing: where trials run.
    """

    def launch(number: int, point: Point, rung: Rung | None) -> Outcome:
        algorithm, parameters = space.chosen(point)
        recipe = Recipe(fold, algorithm, parameters, goal.metric, goal.sign, rung)
        spark.sparkContext.setJobGroup(JOBS, f"trial {number}", interruptOnCancel=True)
        try:
            if placing.whole_pool:
                outcome = run_trial(spark, recipe)
            else:
                [outcome] = run_tasks(spark, partial(run_trial, HERE), [recipe])
        except Exception as error:
            # A worker that died takes its trial with it, not the search.
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            outcome = Outcome(FAILED, reason=f"the task died: {reason[0]}"[:500])
        if outcome.status == FAILED and not _is_alive(spark):
            raise RecsysError("Spark ended: run the same command again, and it goes on.")
        return outcome

    return launch


def _is_alive(spark: SparkSession) -> bool:
    try:
        return not spark.sparkContext._jsc.sc().isStopped()
    except Exception:  # the JVM does not even answer
        return False


def cancel(spark: SparkSession) -> None:
    """End the trials that are at work."""
    spark.sparkContext.cancelJobGroup(JOBS)
