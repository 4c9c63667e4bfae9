"""Judge a fitted recommender on a window: the hit table, then estimates with intervals.

Two questions are asked of every recommender:

discover    what will the customer buy that they have not bought before? Bought items are excluded
            from the list and from what counts as relevant.
replenish   what will the customer buy? Bought items may be recommended.

A customer is eligible where the history knows them and they bought something relevant in the
window. Items that the history does not know count as relevant, though nothing can find them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys import hit_table
from recsys.data.dataset import Fold
from recsys.errors import DataError
from recsys.hit_table import QUESTIONS, K
from recsys.judging import POPULARITY, Judged, judge_block
from recsys.metrics import beyond_accuracy
from recsys.metrics.intervals import Interval, centred_interval, mean_intervals
from recsys.models import arrays
from recsys.models.trend import trend_counts
from recsys.scoring import NONE, SOURCES, Plan
from recsys.segments import segment_values, segments
from recsys.session import run_tasks

INTERVAL_SEED = 20
CATALOGUE_REPLICATES = 200


@dataclass(frozen=True)
class Evaluation:
    """How a recommender did on one window.

    Attributes:
        window: `validation`, `test`, or an earlier test window such as `test_2`.
        table: folder of the hit table's Parquet parts (see `recsys.hit_table`).
        estimates: question → metric → estimate with interval.
        totals: question → customers judged, and the share of them that each source served.
        recommended: question → how often each item was recommended at 10, int [items].
        popularity: [items] purchases before the cut, guests' too.
        items_per_second: recommendations made in a second of one core, both questions together.
    """

    window: str
    table: Path
    estimates: dict[str, dict[str, Interval]]
    totals: dict[str, dict[str, float]]
    recommended: dict[str, NDArray[np.int64]]
    popularity: NDArray[np.float64]
    items_per_second: float

    def metrics(self) -> dict[str, float]:
        """Return all metrics under the names that runs carry.

        `test/ndcg_at_10` is for discover, `test/replenish/ndcg_at_10` for replenish; the ends of
        an interval have `_low` and `_high` behind the name, at 10 only: more would drown the rest.
        The speed is not among them: it differs from run to run.
        """
        named: dict[str, float] = {}
        for question in QUESTIONS:
            found = dict(self.totals[question])
            for name, interval in self.estimates[question].items():
                found[name] = interval.value
                if name.endswith(f"_at_{K}"):
                    found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
            for name, value in found.items():
                named[f"{self.window}/{hit_table.metric_name(question, name)}"] = value
        return named


def evaluate(spark: SparkSession, plan: Plan, fold: Fold, table: Path) -> Evaluation:
    """Rank all items for every eligible customer and compare with what they bought.

    Args:
        spark: the session.
        plan: a recommender fitted on the fold's history.
        fold: history and truth.
        table: folder to write the hit table to.

    Raises:
        DataError: no customer is eligible.
    """
    table.mkdir(parents=True, exist_ok=True)
    popularity = trend_counts(spark, fold.history, half_life=np.inf)[0]
    arrays.write(Path(plan.terms), POPULARITY, popularity)

    def task(number: int) -> Judged:
        return judge_block(plan, fold, number, table)

    done = run_tasks(spark, task, fold.truth.covering(fold.history.customers))
    recommended = {
        question: np.sum([block.recommended[question] for block in done], axis=0)
        for question in QUESTIONS
    }
    estimates, totals = {}, {}
    for question in QUESTIONS:
        rows = _rows_of(table, question, fold.name)
        estimates[question] = _estimates(rows, fold.history.items)
        totals[question] = _totals(rows)
    return Evaluation(
        fold.name,
        table,
        estimates,
        totals,
        recommended,
        popularity.astype(np.float64),
        sum(block.given for block in done) / max(sum(block.seconds for block in done), 1e-9),
    )


def _rows_of(table: Path, question: str, window: str) -> pa.Table:
    """Read one question's rows; raises DataError where there is none."""
    if any(table.iterdir()):
        rows = pq.read_table(table, filters=pc.field(hit_table.QUESTION) == question)
        if len(rows):
            return rows.combine_chunks()
    raise DataError(
        f"No customer of the {window} window has anything to {question}: "
        "prepare a dataset with a longer window."
    )


def _estimates(rows: pa.Table, items: int) -> dict[str, Interval]:
    """Return every metric with its interval."""
    names = hit_table.metric_names(rows)
    intervals = mean_intervals(hit_table.values(rows, names), INTERVAL_SEED)
    found = dict(zip(names, intervals, strict=True))
    [lists] = hit_table.list_matrices([rows], K)
    recommended = np.asarray(lists.sum(axis=0)).ravel()
    draws = beyond_accuracy.catalogue_draws(lists, items, INTERVAL_SEED, CATALOGUE_REPLICATES)
    for name, metric in beyond_accuracy.CATALOGUE_METRICS.items():
        found[f"{name}_at_{K}"] = centred_interval(float(metric(recommended, items)), draws[name])
    return found


def _totals(rows: pa.Table) -> dict[str, float]:
    """Count the customers, and which share of them each source served at 10."""
    served = {
        f"served_by_{name}": float(
            pc.mean(pc.greater(rows[hit_table.SOURCE_PREFIX + name], 0)).as_py()
        )
        for name in SOURCES[NONE + 1 :]
    }
    return {"customers": float(len(rows))} | served


def segment_table(evaluation: Evaluation, tables: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Judge groups of customers by themselves.

    Args:
        evaluation: of a window.
        tables: folder with the tables `customers` and `items`.
        columns: of either table, beside activity.

    Returns:
        One row a question and group: by, segment, customers, ndcg_at_10 with its interval,
        recall_at_10.
    """
    found = []
    for question in QUESTIONS:
        rows = hit_table.of_question(pq.read_table(evaluation.table), question)
        for segment in segments(rows, tables, columns):
            values = [segment_values(rows, segment, f"{m}_at_{K}") for m in ("ndcg", "recall")]
            ndcg, recall = mean_intervals(np.column_stack(values), INTERVAL_SEED)
            found.append(
                {
                    "question": question,
                    "by": segment.by,
                    "segment": segment.label,
                    "customers": len(segment.customers),
                    f"ndcg_at_{K}": ndcg.value,
                    "low": ndcg.low,
                    "high": ndcg.high,
                    f"recall_at_{K}": recall.value,
                }
            )
    return pd.DataFrame(found).round(6)
