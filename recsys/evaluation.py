"""Judge a fitted recommender on a window: the hit table, then estimates with intervals.

Two questions are asked of every recommender:

discover    what will the customer buy that they have not bought before? Bought items are excluded
            from the list and from what counts as relevant.
replenish   what will the customer buy? Bought items may be recommended.

Where the plan has a campaign, a third is asked:

campaign    what will the customer buy of that which the strategy's rule on bought items allows?

A customer is eligible where the history knows them and they bought something relevant in the
window. Items that the history does not know count as relevant, though nothing can find them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import hit_table
from recsys.data.dataset import Fold
from recsys.errors import DataError
from recsys.hit_table import K
from recsys.judging import POPULARITY, Judged, judge_block, questions_of
from recsys.metrics import beyond_accuracy
from recsys.metrics.intervals import Interval, centred_interval, mean_intervals
from recsys.models import arrays
from recsys.models.trend import purchase_counts
from recsys.ranker import NONE, SOURCES
from recsys.scoring import Plan
from recsys.segments import segment_values, segments
from recsys.session import Pool, run_tasks
from recsys.storage import Place, fetched, files_in, make_folder, place_of, read_parquet

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
        items_per_second: recommendations made in a second of one core, all questions together.
    """

    window: str
    table: Place
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
        for question in self.estimates:
            found = dict(self.totals[question])
            for name, interval in self.estimates[question].items():
                found[name] = interval.value
                if name.endswith(f"_at_{K}"):
                    found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
            for name, value in found.items():
                named[f"{self.window}/{hit_table.metric_name(question, name)}"] = value
        return named


def evaluate(pool: Pool, plan: Plan, fold: Fold, table: Place) -> Evaluation:
    """Rank all items for every eligible customer and compare with what they bought.

    Args:
        pool: where the tasks run.
        plan: a recommender fitted on the fold's history.
        fold: history and truth.
        table: folder to write the hit table to.

    Raises:
        DataError: no customer is eligible.
    """
    done = judge(pool, plan, fold, table)
    popularity = arrays.read(place_of(plan.terms), POPULARITY)
    questions = questions_of(plan)
    recommended = {
        question: np.sum([block.recommended[question] for block in done], axis=0)
        for question in questions
    }
    totals = {question: _totals(table, question, fold.name) for question in questions}
    return Evaluation(
        fold.name,
        table,
        _estimates(pool, table, questions, fold.history.items),
        totals,
        recommended,
        popularity.astype(np.float64),
        sum(block.given for block in done) / max(sum(block.seconds for block in done), 1e-9),
    )


def judge(pool: Pool, plan: Plan, fold: Fold, table: Place) -> list[Judged]:
    """Write the hit table, a part a block; arguments as in `evaluate`."""
    make_folder(table)
    arrays.write(place_of(plan.terms), POPULARITY, purchase_counts(pool, fold.history))

    def task(number: int) -> Judged:
        return judge_block(plan, fold, number, table)

    return run_tasks(pool, task, fold.truth.covering(fold.history.customers))


def means(table: Place, questions: Sequence[str], window: str) -> dict[str, float]:
    """Return every metric's mean over customers, without intervals.

    Args:
        table: folder of the hit table.
        questions: that were asked.
        window: for the message.

    Returns:
        name such as `ndcg_at_10` or `replenish/ndcg_at_10` → mean.

    Raises:
        DataError: nobody was judged on one of the questions.
    """
    found = {}
    for question in questions:
        _totals(table, question, window)
        names = hit_table.metric_names(pq.ParquetDataset(fetched(table)).schema)
        columns = hit_table.values(_rows_of(table, question, names), names)
        for name, value in zip(names, columns.mean(axis=0), strict=True):
            found[hit_table.metric_name(question, name)] = float(value)
    return found


def _totals(table: Place, question: str, window: str) -> dict[str, float]:
    """Count the customers, and which share of them each source served at 10.

    Raises:
        DataError: nobody was judged.
    """
    names = {name: hit_table.SOURCE_PREFIX + name for name in SOURCES[NONE + 1 :]}
    known = bool(files_in(table))
    rows = _rows_of(table, question, list(names.values())) if known else pa.table({})
    if len(rows) == 0:
        raise DataError(
            f"No customer of the {window} window has anything to {question}: "
            "prepare a dataset with a longer window."
        )
    served = {
        f"served_by_{name}": float(pc.mean(pc.greater(rows[column], 0)).as_py())
        for name, column in names.items()
    }
    return {"customers": float(len(rows))} | served


def _estimates(
    pool: Pool, table: Place, questions: Sequence[str], items: int
) -> dict[str, dict[str, Interval]]:
    """Return question → metric → estimate with interval; the draws are spread over the pool."""
    jobs = [(question, job) for question in questions for job in (_of_means, _of_lists)]
    found = run_tasks(pool, lambda job: job[1](table, job[0], items), jobs)
    estimates: dict[str, dict[str, Interval]] = {question: {} for question in questions}
    for (question, _), part in zip(jobs, found, strict=True):
        estimates[question] |= part
    return estimates


def _of_means(table: Place, question: str, items: int) -> dict[str, Interval]:
    """Return every metric that is a mean over customers, with its interval."""
    names = hit_table.metric_names(pq.ParquetDataset(fetched(table)).schema)
    rows = _rows_of(table, question, names)
    intervals = mean_intervals(hit_table.values(rows, names), INTERVAL_SEED)
    return dict(zip(names, intervals, strict=True))


def _of_lists(table: Place, question: str, items: int) -> dict[str, Interval]:
    """Return what describes all lists of 10 together, with its interval."""
    [lists] = hit_table.list_matrices([_rows_of(table, question, [hit_table.RECOMMENDED])], K)
    recommended = np.asarray(lists.sum(axis=0)).ravel()
    draws = beyond_accuracy.catalogue_draws(lists, items, INTERVAL_SEED, CATALOGUE_REPLICATES)
    return {
        f"{name}_at_{K}": centred_interval(float(metric(recommended, items)), draws[name])
        for name, metric in beyond_accuracy.CATALOGUE_METRICS.items()
    }


def _rows_of(table: Place, question: str, columns: list[str]) -> pa.Table:
    """Read some columns of one question's rows."""
    asked = pc.field(hit_table.QUESTION) == question
    return read_parquet(table, columns=columns, filters=asked).combine_chunks()


def segment_table(evaluation: Evaluation, tables: Place, columns: Sequence[str]) -> pd.DataFrame:
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
    for question in evaluation.estimates:
        rows = hit_table.of_question(read_parquet(evaluation.table), question)
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
