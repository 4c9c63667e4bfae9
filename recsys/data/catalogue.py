"""What a history's tables say of its items."""

from functools import lru_cache

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as c
from recsys.data.dataset import History
from recsys.storage import place_of, read_parquet


@lru_cache(maxsize=4)
def read_categories(history: History) -> tuple[NDArray[np.int32], list[str]]:
    """Give the items' categories numbers.

    Returns:
        int32 [items], -1 where a category is unknown, and the categories' names.
    """
    items = place_of(history.tables) / "items"
    column = read_parquet(items, columns=[c.CATEGORY])[c.CATEGORY]
    encoded = pc.dictionary_encode(column.slice(0, history.items).combine_chunks())
    codes = pc.fill_null(encoded.indices, -1)
    return np.asarray(codes.to_numpy(), dtype=np.int32), encoded.dictionary.to_pylist()
