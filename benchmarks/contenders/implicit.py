"""The library implicit: one process, its compiled kernels on all cores."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender

from benchmarks.contenders.child import Clock, Job, run

CUSTOMERS_A_CALL = 50_000
THREADS = os.cpu_count() or 1


def als(job: Job, clock: Clock) -> None:
    """Read, fit, save."""
    with clock.phase("pack"):
        matrix = read_matrix(job)
    model = _als(job)
    with clock.phase("fit"):
        model.fit(matrix, show_progress=False)
    with clock.phase("save"):
        np.save(Path(job.work) / "customers.npy", model.user_factors)
        np.save(Path(job.work) / "items.npy", model.item_factors)


def item_item(job: Job, clock: Clock) -> None:
    """Read, find every item's neighbours."""
    with clock.phase("pack"):
        matrix = read_matrix(job)
    model = CosineRecommender(K=job.neighbours, num_threads=THREADS)
    with clock.phase("fit"):
        model.fit(matrix, show_progress=False)


def score(job: Job, clock: Clock) -> None:
    """Rank every customer with our own factors, bought items excluded; the lists are not kept."""
    model = _als(job)
    fitted = Path(job.fitted)
    model.user_factors = np.load(fitted / "customer_factors.npy")
    model.item_factors = np.load(fitted / "item_factors.npy")
    with clock.phase("pack"):
        matrix = read_matrix(job)
    with clock.phase("score"):
        for start in range(0, job.customers, CUSTOMERS_A_CALL):
            customers = np.arange(start, min(job.customers, start + CUSTOMERS_A_CALL))
            model.recommend(customers, matrix[customers], N=job.k, filter_already_liked_items=True)


def read_matrix(job: Job) -> sp.csr_matrix:
    """Read who bought what, counted: float32 CSR [customers, items]."""
    columns = ["customer", "item"]
    table = pa.concat_tables(pq.read_table(path, columns=columns) for path in job.tables)
    table = table.drop_null()
    customers, items = (table[name].to_numpy() for name in columns)
    ones = np.ones(len(table), dtype=np.float32)
    return sp.coo_matrix((ones, (customers, items)), shape=(job.customers, job.items)).tocsr()


def _als(job: Job) -> AlternatingLeastSquares:
    return AlternatingLeastSquares(
        factors=job.factors,
        iterations=job.iterations,
        num_threads=THREADS,
        use_gpu=False,
        random_state=job.seed,
    )


if __name__ == "__main__":
    run({f.__name__: f for f in (als, item_item, score)})
