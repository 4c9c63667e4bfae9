"""A saved model for notebooks and `mlflow models serve`, through MLflow's pyfunc flavour.

MLflow finds this module by its name; the artifact itself holds no code and no pickle.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import scipy.sparse as sp
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from recsys import columns as c
from recsys.models import ALGORITHMS, arrays, files
from recsys.ranker import SOURCES, Customers, Ranker
from recsys.scoring import check_k
from recsys.strategy import Seen

HISTORY = "history"
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, c.CUSTOMER_ID),
            ColSpec(Array(DataType.string), HISTORY, required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, c.CUSTOMER_ID),
            ColSpec(DataType.integer, c.RANK),
            ColSpec(DataType.string, c.ITEM_ID),
            ColSpec(DataType.float, c.SCORE),
            ColSpec(DataType.string, c.SOURCE),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("k", DataType.integer, 10),
            ParamSpec("repeat", DataType.boolean, False),
        ]
    ),
)


class RecommenderModel:
    """Recommends for customers that the model knows, and for any with a history of items."""

    def __init__(self, folder: Path) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="recsys-model-")
        fitted = Path(self._scratch.name) / "fitted"
        self.header = files.load(folder, fitted)
        items = pq.read_table(folder / files.ITEMS)
        customers = pq.read_table(folder / files.CUSTOMERS)[c.CUSTOMER_ID].to_pylist()
        self.items = np.array(items[c.ITEM_ID].to_pylist(), dtype=str)
        self._customer = {customer: row for row, customer in enumerate(customers)}
        self._item = {item: index for index, item in enumerate(self.items)}
        recommender = ALGORITHMS[self.header.algorithm](self.header.parameters)
        self._ranker = Ranker(
            recommender.open(arrays.read_all(fitted)),
            self.header.parameters,
            items["trend"].to_numpy()[None, :],
            self.items,
            self.header.customers,
        )

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rank items for each customer.

        Args:
            data: customer_id, and optionally history (item ids that the customer has bought).
            params: k, and repeat (whether items of the history may be recommended).

        Returns:
            customer_id, rank, item_id, score, source; k rows a customer.
        """
        options = {"k": 10, "repeat": False} | (params or {})
        ids = [str(customer) for customer in data[c.CUSTOMER_ID]]
        bought = self._matrix(list(data[HISTORY]) if HISTORY in data else [()] * len(ids))
        unknown = self.header.customers
        rows = np.array([self._customer.get(i, unknown) for i in ids], dtype=np.int64)
        k = min(int(options["k"]), len(self.items))
        check_k(k, len(self.items))
        policy: Seen = "allow" if options["repeat"] else "exclude"
        ranking = self._ranker.rank(Customers(rows, bought, bought), k, (policy,))[0]
        row, place = np.nonzero(ranking.items >= 0)
        return pd.DataFrame(
            {
                c.CUSTOMER_ID: np.array(ids, dtype=object)[row],
                c.RANK: (place + 1).astype(np.int32),
                c.ITEM_ID: self.items[ranking.items[row, place]],
                c.SCORE: ranking.scores[row, place],
                c.SOURCE: np.array(SOURCES)[ranking.sources[row, place]],
            }
        )

    def _matrix(self, histories: list[Any]) -> sp.csr_matrix:
        """Turn lists of item ids into a CSR [customers, items]; items not known are left out."""
        known = [
            sorted({self._item[i] for i in (h if h is not None else ()) if i in self._item})
            for h in histories
        ]
        indptr = np.concatenate(([0], np.cumsum([len(row) for row in known]))).astype(np.int64)
        indices = np.array([i for row in known for i in row], dtype=np.int64)
        data = np.ones(len(indices), dtype=np.float32)
        return sp.csr_matrix((data, indices, indptr), shape=(len(known), len(self.items)))


def _load_pyfunc(path: str) -> RecommenderModel:
    """Load the model; the name is MLflow's."""
    return RecommenderModel(Path(path))
