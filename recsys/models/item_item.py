"""Item-item similarity: a customer is recommended the neighbours of what they bought.

personal(u, i) = Σ over u's items j of weight(u, j) · similarity(j, i), similarity kept for each
j's strongest neighbours, and divided by the customer's strongest score, so that own purchases
weigh alike for light and heavy buyers. Guests' baskets count as rows of their own.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import SparkSession

from recsys.data.dataset import History
from recsys.kernels import similarity as kernel
from recsys.kernels.similarity import Similarity
from recsys.models import arrays
from recsys.models.base import Floats, Hyperparameters, Ints, Recommender, Scorer
from recsys.session import run_tasks

NEIGHBOURS, SIMILARITIES = "neighbours", "similarities"


class ItemItemParameters(Hyperparameters):
    """Hyperparameters of item-item; the defaults were chosen on Online Retail's validation."""

    similarity: Similarity = Field(
        "bm25", description="cosine, bm25, tfidf, jaccard or lift (recsys/kernels/similarity.py)"
    )
    neighbours: int = Field(200, ge=1, description="neighbours kept an item")
    trend_power: float = Field(0.2, ge=0, description="exponent of the trend prior; 0: none")
    repeat_weight: float = Field(
        2.0, ge=0, description="weight of the customer's own purchases where repeat is allowed"
    )
    shrink: float = Field(0.0, ge=0, description="pulls similarities that rest on few buyers to 0")


class ItemItem(Recommender):
    """Nearest neighbours between items (Sarwar et al. 2001; Deshpande & Karypis 2004)."""

    name: ClassVar[str] = "item_item"
    parameters_class: ClassVar[type[Hyperparameters]] = ItemItemParameters
    parameters: ItemItemParameters

    def fit(self, spark: SparkSession, history: History, folder: Path) -> list[dict[str, float]]:
        """Multiply blocks of items with the whole matrix, one task a block."""
        parameters = self.parameters
        work = folder / "item_item"
        work.mkdir(parents=True)
        row_weights, item_weights = self._write_matrix(spark, history, work)
        blocks, items = history.item_blocks, history.items
        for name, dtype in ((NEIGHBOURS, np.int32), (SIMILARITIES, np.float32)):
            arrays.create(folder, name, (items, parameters.neighbours), dtype)

        def task(number: int) -> None:
            matrix = _read_matrix(work, items)
            block = blocks.read(number).take(items).before(history.before)
            own = self._entries(parameters.matrix(block, history.before, matrix.shape[0]))
            own.data *= row_weights[own.indices]
            own.data *= np.repeat(item_weights[block.start :][: block.rows], np.diff(own.indptr))
            found, strength = kernel.neighbours_of(
                own,
                matrix,
                arrays.read(work, "norms"),
                block.start,
                parameters.similarity,
                parameters.shrink,
                parameters.neighbours,
            )
            arrays.write_rows(folder, NEIGHBOURS, block.start, found)
            arrays.write_rows(folder, SIMILARITIES, block.start, strength)

        run_tasks(spark, task, blocks.covering(items))
        shutil.rmtree(work)
        return []

    def open(self, arrays: dict[str, NDArray[Any]]) -> Scorer:
        """Return the scorer over the two neighbour arrays."""
        return ItemItemScorer(similarity_matrix(arrays[NEIGHBOURS], arrays[SIMILARITIES]))

    def _entries(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        """Replace weights by 1 where the similarity asks who bought, not how much."""
        if self.parameters.similarity in kernel.BINARY:
            matrix.data[:] = 1
        return matrix

    def _write_matrix(
        self, spark: SparkSession, history: History, work: Path
    ) -> tuple[Floats, Floats]:
        """Weigh every block of rows, then join them into one mapped CSR.

        Returns:
            The similarity's weights: float32 [rows] and float32 [items].
        """
        parameters, items = self.parameters, history.items
        blocks = history.customer_blocks

        def task(number: int) -> NDArray[np.int64]:
            block = blocks.read(number).before(history.before)
            matrix = self._entries(parameters.matrix(block, history.before, items))
            arrays.write(work, f"data-{number}", matrix.data)
            arrays.write(work, f"indices-{number}", matrix.indices.astype(np.int32))
            return np.asarray(np.diff(matrix.indptr), dtype=np.int64)

        lengths = np.concatenate(run_tasks(spark, task, blocks.numbers))
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        buyers = sum(
            np.bincount(arrays.read(work, f"indices-{n}"), minlength=items) for n in blocks.numbers
        )
        row_weights, item_weights = kernel.row_and_item_weights(
            parameters.similarity, lengths, np.asarray(buyers)
        )
        norms = np.zeros(items)
        for name, dtype in (("data", np.float32), ("indices", np.int32)):
            arrays.create(work, name, (int(indptr[-1]),), dtype)
        for number in blocks.numbers:
            start, stop = blocks.bounds(number)
            columns = arrays.read(work, f"indices-{number}")
            rows = np.repeat(row_weights[start:stop], lengths[start:stop])
            data = arrays.read(work, f"data-{number}") * rows * item_weights[columns]
            norms += np.bincount(columns, data.astype(np.float64) ** 2, minlength=items)
            arrays.write_rows(work, "data", indptr[start], data)
            arrays.write_rows(work, "indices", indptr[start], columns)
        arrays.write(work, "indptr", indptr)
        arrays.write(work, "norms", norms)
        return row_weights, item_weights


def _read_matrix(work: Path, items: int) -> sp.csr_matrix:
    data, indices, indptr = (arrays.read(work, name) for name in ("data", "indices", "indptr"))
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, items), copy=False)


def similarity_matrix(neighbours: NDArray[np.int32], similarities: Floats) -> sp.csr_matrix:
    """Turn padded neighbour lists [items, count] into a CSR [items, items]."""
    kept = neighbours >= 0
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    shape = (len(neighbours), len(neighbours))
    return sp.csr_matrix((similarities[kept], neighbours[kept], indptr), shape=shape)


@dataclass(frozen=True)
class ItemItemScorer:
    """Scores by the similarity to what a customer bought, known to the fit or not.

    Attributes:
        similarity: CSR [items, items].
    """

    similarity: sp.csr_matrix

    def personal(self, rows: Ints, weights: sp.csr_matrix) -> Floats:
        """Return weights · similarity; -inf where no bought item has the item as a neighbour."""
        product = weights @ self.similarity
        row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
        strongest = np.zeros(product.shape[0], dtype=np.float32)
        np.maximum.at(strongest, row, product.data)
        scores = np.full(product.shape, -np.inf, dtype=np.float32)
        scores[row, product.indices] = product.data / strongest[row]
        return scores
