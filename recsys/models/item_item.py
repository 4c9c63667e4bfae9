"""Item-item similarity: a customer is recommended the neighbours of what they bought.

personal(u, i) = Σ over u's items j of weight(u, j) · similarity(j, i), similarity kept for each
j's strongest neighbours, and divided by the customer's strongest score, so that own purchases
weigh alike for light and heavy buyers. Guests' baskets count as rows of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.data.dataset import History
from recsys.errors import ModelError
from recsys.kernels import reasons
from recsys.kernels import similarity as kernel
from recsys.kernels.entries import rows_of
from recsys.kernels.similarity import Similarity
from recsys.models import arrays
from recsys.models.base import Floats, Hyperparameters, Ints, Learned, Recommender, Scorer
from recsys.models.checkpoint import Steps
from recsys.session import Pool, most_tasks, run_tasks
from recsys.storage import Place, make_folder, remove_folder

NEIGHBOURS, SIMILARITIES = "neighbours", "similarities"
# A task holds its items' entries twice: 80 MB.
ENTRIES_A_TASK = 5_000_000
Floats64 = NDArray[np.float64]


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
    max_items: int | None = Field(
        2000,
        ge=1,
        description="a customer or basket of more items counts with its newest ones only; or all",
    )


class ItemItem(Recommender):
    """Nearest neighbours between items (Sarwar et al. 2001; Deshpande & Karypis 2004)."""

    name: ClassVar[str] = "item_item"
    parameters_class: ClassVar[type[Hyperparameters]] = ItemItemParameters
    learned: ClassVar[Mapping[str, Learned]] = {
        NEIGHBOURS: Learned("items", pa.int32()),
        SIMILARITIES: Learned("items", pa.float32()),
    }
    parameters: ItemItemParameters

    def fit(self, pool: Pool, history: History, folder: Place, kept: Place | None = None) -> Steps:
        """Write the weighted matrix once; then each task multiplies its items with all others."""
        parameters, items = self.parameters, history.items
        work = folder / "item_item"
        make_folder(work)
        cost = self._write_matrix(pool, history, work)
        for name, dtype in ((NEIGHBOURS, np.int32), (SIMILARITIES, np.float32)):
            arrays.create(folder, name, (items, parameters.neighbours), dtype)

        def task(bounds: tuple[int, int]) -> None:
            found, strength = kernel.neighbours_of(
                _read_matrix(work, items),
                arrays.read(work, "norms"),
                *bounds,
                parameters.similarity,
                parameters.shrink,
                parameters.neighbours,
            )
            arrays.write_rows(folder, NEIGHBOURS, bounds[0], found)
            arrays.write_rows(folder, SIMILARITIES, bounds[0], strength)

        entries = int(arrays.read(work, "indptr")[-1])
        run_tasks(pool, task, ranges(cost, max(most_tasks(pool), entries // ENTRIES_A_TASK)))
        remove_folder(work)
        return {}

    def bytes_a_row(self) -> int:
        """Count neighbours and similarities, and the CSR made of them."""
        return 2 * 12 * self.parameters.neighbours

    def open(self, arrays: dict[str, NDArray[Any]]) -> Scorer:
        """Return the scorer over the two neighbour arrays."""
        return ItemItemScorer(similarity_matrix(arrays[NEIGHBOURS], arrays[SIMILARITIES]))

    def _entries(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        """Replace weights by 1 where the similarity asks who bought, not how much."""
        if self.parameters.similarity in kernel.BINARY:
            matrix.data[:] = 1
        return matrix

    def _write_matrix(self, pool: Pool, history: History, work: Place) -> Floats64:
        """Weigh every block of rows, then join them into one mapped CSR.

        Returns:
            [items] about how long each item's neighbours will take, in any unit.

        Raises:
            ModelError: a weight is not a finite number.
        """
        parameters, items = self.parameters, history.items
        blocks = history.customer_blocks

        def task(number: int) -> Ints:
            block = blocks.read(number).before(history.before)
            if parameters.max_items:
                block = kernel.newest_items(block, parameters.max_items)
            matrix = self._entries(parameters.matrix(block, history.before, items))
            arrays.write(work, f"data-{number}", matrix.data)
            arrays.write(work, f"indices-{number}", matrix.indices.astype(np.int32))
            return np.asarray(np.diff(matrix.indptr), dtype=np.int64)

        lengths = np.concatenate(run_tasks(pool, task, blocks.numbers))
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        buyers = np.zeros(items, dtype=np.int64)
        for number in blocks.numbers:
            buyers += np.bincount(arrays.read(work, f"indices-{number}"), minlength=items)
        row_weights, item_weights = kernel.row_and_item_weights(
            parameters.similarity, lengths, buyers
        )
        norms = np.zeros(items)
        for name, dtype in (("data", np.float32), ("indices", np.int32)):
            arrays.create(work, name, (int(indptr[-1]),), dtype)
        for number in blocks.numbers:
            start, stop = blocks.bounds(number)
            columns = arrays.read(work, f"indices-{number}")
            rows = np.repeat(row_weights[start:stop], lengths[start:stop])
            data = arrays.read(work, f"data-{number}") * rows * item_weights[columns]
            # Entry after entry, so that the sum is the same however the rows are cut into blocks.
            np.add.at(norms, columns, data.astype(np.float64) ** 2)
            arrays.write_rows(work, "data", indptr[start], data)
            arrays.write_rows(work, "indices", indptr[start], columns)
        if not np.isfinite(norms).all():
            raise ModelError(
                f"{int((~np.isfinite(norms)).sum())} items have a purchase whose weight is no "
                "finite number: look for quantities that are NaN or infinite, then prepare again."
            )
        arrays.write(work, "indptr", indptr)
        arrays.write(work, "norms", norms)
        # A buyer's basket is added up for each item in it; then all items are looked through.
        basket = (lengths**2).sum() / max(1, lengths.sum())
        return np.asarray(buyers * basket + items, dtype=np.float64)


def ranges(cost: Floats64, count: int) -> list[tuple[int, int]]:
    """Cut items into at most `count` ranges [start, stop) of about equal cost [items]."""
    # An item that a cut falls into goes to the side that holds its centre.
    centres = np.cumsum(cost) - cost / 2
    cuts = np.searchsorted(centres, cost.sum() * np.arange(1, count) / count)
    return list(pairwise(np.unique([0, *cuts, len(cost)]).tolist()))


def _read_matrix(work: Place, items: int) -> sp.csr_matrix:
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
        row = rows_of(product)
        strongest = np.zeros(product.shape[0], dtype=np.float32)
        np.maximum.at(strongest, row, product.data)
        scores = np.full(product.shape, -np.inf, dtype=np.float32)
        scores[row, product.indices] = product.data / strongest[row]
        return scores

    def reasons(self, weights: sp.csr_matrix, items: Ints, count: int) -> Ints:
        """Split a sum of similarities into the bought items' shares; see `Explains.reasons`."""
        return reasons.of_neighbours(self.similarity, weights, items, count)
