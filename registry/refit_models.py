"""Both models of a refit: the evaluated one on the newest interactions, and the fresh fit of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys import columns as c
from recsys.data.history import CompleteHistory, pack_complete, pack_newest
from recsys.data.tables import RetailTables, read_tables
from recsys.errors import DataError
from recsys.hit_table import K
from recsys.models import arrays, files
from recsys.models.base import Ints
from recsys.ranker import FOLD_IN, MODEL, Ranking
from recsys.scoring import TREND, Plan, all_ids, plan_scoring, rank_block, read_ids
from recsys.session import Pool, run_tasks
from recsys.storage import Place, place_of, shared_copy
from recsys.training import Fitted, fit_plan, recipe
from registry.refit_checks import Kept, Likeness, Lists

SAMPLED, SEED = 2_000, 7
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Models:
    """Both models, ready to rank; their files live as long as the scratch folder.

    Attributes:
        header: what the evaluated model says of itself.
        evaluated: it, on the newest interactions.
        complete: what was fitted on.
        refit: the fresh fit.
        saved: folder of the saved refit.
        digest: of the saved refit.
    """

    header: files.Header
    evaluated: Plan
    complete: CompleteHistory
    refit: Fitted
    saved: Path
    digest: str


def fit_again(
    spark: SparkSession,
    model: Path,
    interactions: str,
    scratch: Place,
    saved: Path,
    checkpoints: Place,
) -> Models:
    """Fit a saved model's recipe on all interactions, and save it.

    Args:
        spark: the session.
        model: folder of the evaluated model, verified.
        interactions: folder that ingest wrote.
        scratch: empty folder that all tasks reach and that outlives the models.
        saved: local folder to save the refit to.
        checkpoints: where a long fit keeps its state.

    Raises:
        DataError: the interactions hold nothing that the evaluated model has not seen.
        ModelError: the evaluated model belongs to other data.
    """
    retail = read_tables(spark, interactions)
    header = files.load(model, scratch / "evaluated")
    evaluated = _on_newest(spark, model, header, retail, scratch)
    complete = pack_complete(spark, retail, scratch / "complete")
    history = complete.history
    if history.before <= header.before:
        raise DataError(
            f"{interactions} ends before {day(history.before)}, and the evaluated model was "
            f"fitted on all before {day(header.before)}: ingest what was bought since."
        )
    algorithm, parameters = header.algorithm, header.parameters
    told = f"{complete.digest} all {recipe(algorithm, parameters)}"
    kept = checkpoints / f"{algorithm}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    refit = fit_plan(spark, algorithm, parameters, history, scratch / "refit", kept)
    trend = np.asarray(arrays.read(place_of(refit.plan.terms), TREND)[0])
    says = files.Header(
        algorithm, parameters, complete.digest, history.before, history.customers, history.items
    )
    digest = files.save(place_of(refit.plan.model), says, history, trend, saved)
    return Models(header, evaluated, complete, refit, saved, digest)


def _on_newest(
    spark: SparkSession, model: Path, header: files.Header, retail: RetailTables, scratch: Place
) -> Plan:
    """Plan what the evaluated model would score tonight, as `batch_score` does."""
    newest = pack_newest(
        spark,
        retail,
        shared_copy(model / files.ITEMS, scratch / "model"),
        shared_copy(model / files.CUSTOMERS, scratch / "model"),
        header.customers,
        scratch / "newest",
    )
    return plan_scoring(
        spark,
        header.algorithm,
        header.parameters,
        scratch / "evaluated",
        header.customers,
        newest.history,
        scratch / "terms",
        newest.fit_rows,
        header.before,
    )


def likeness(pool: Pool, models: Models, model: Path) -> Likeness:
    """Rank the same customers with both models and put side by side what they know.

    Args:
        pool: where the tasks run.
        models: both.
        model: folder of the evaluated model.

    Raises:
        DataError: there is no customer that both know.
    """
    ids = {
        file: [pq.read_table(f / file)[key].combine_chunks() for f in (model, models.saved)]
        for file, key in ((files.ITEMS, c.ITEM_ID), (files.CUSTOMERS, c.CUSTOMER_ID))
    }
    before, now = ids[files.CUSTOMERS]
    sample = _sample(before.filter(pc.is_in(before, value_set=now)))
    if not sample:
        raise DataError(
            "The evaluated model knows no customer of these interactions: give those of the same "
            "retailer."
        )
    return Likeness(
        sample,
        rank(pool, models.evaluated, sample),
        rank(pool, models.refit.plan, sample),
        Kept.of(*ids[files.ITEMS]),
        Kept.of(before, now),
    )


def _sample(ids: pa.StringArray) -> list[str]:
    """Return all ids, or a seeded sample of many."""
    if len(ids) > SAMPLED:
        chosen = np.random.default_rng(SEED).choice(len(ids), SAMPLED, replace=False)
        ids = ids.sort().take(pa.array(chosen))
    return sorted(map(str, ids.to_pylist()))


def rank(pool: Pool, plan: Plan, customers: Sequence[str]) -> Lists:
    """Rank all items that customers have not bought, through the one scoring path.

    Args:
        pool: where the tasks run.
        plan: a model on a history.
        customers: ids, each once, all known to the history.
    """
    history, blocks = plan.history, plan.history.customer_blocks
    known = all_ids(history.tables, "customers", c.CUSTOMER_ID, history.customers)
    rows = pc.index_in(pa.array(customers), value_set=known).to_numpy().astype(np.int64)
    k = min(K, history.items)

    def task(number: int) -> list[tuple[Ints, Ranking]]:
        block = blocks.read(number).take(history.customers)
        wanted = np.zeros(block.rows, dtype=bool)
        wanted[rows[rows // blocks.size == number] - block.start] = True
        ranked = rank_block(plan, block, wanted, k, ("exclude",))
        return [(block.start + local, rankings[0]) for local, rankings in ranked]

    parts = [
        part
        for found in run_tasks(pool, task, np.unique(rows // blocks.size).tolist())
        for part in found
    ]
    order = np.argsort(np.concatenate([ranked for ranked, _ in parts]))
    items, scores, sources = (
        np.concatenate([getattr(ranking, name) for _, ranking in parts])[order]
        for name in ("items", "scores", "sources")
    )
    # From the order of the history's rows to that of the ids asked for.
    place = np.argsort(np.argsort(rows))
    ids = read_ids(history.tables, "items", c.ITEM_ID, history.items)
    named = np.where(items >= 0, ids[items], "")
    personal = np.isin(sources, (MODEL, FOLD_IN))
    return Lists(named[place], scores[place], personal[place])


def day(number: int) -> str:
    """Write a day, counted from 1970-01-01, as a date."""
    return (EPOCH + timedelta(days=number)).isoformat()
