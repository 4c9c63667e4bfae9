"""The compiled loop of `recsys.kernels.similarity`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernels.compiled import exact


@exact
def find_strongest(
    own_indptr: NDArray[Any],
    own_rows: NDArray[Any],
    own_data: NDArray[np.float32],
    indptr: NDArray[Any],
    columns: NDArray[Any],
    data: NDArray[np.float32],
    factors: NDArray[np.float64],
    summands: NDArray[np.float64],
    overlap: float,
    shrink: float,
    start: int,
    found: NDArray[np.int32],
    strength: NDArray[np.float32],
) -> None:
    """Multiply item by item into one dense row (Gustavson 1978) and keep its strongest cells.

    Args:
        own_indptr: with `own_rows` and `own_data` the asked columns of R as CSC [rows, asked].
        own_rows: see `own_indptr`.
        own_data: see `own_indptr`.
        indptr: with `columns` and `data` the whole of R as CSR [rows, items].
        columns: see `indptr`.
        data: see `indptr`.
        factors: [items], f of the module's common formula.
        summands: [items], its g.
        overlap: its o.
        shrink: its shrink.
        start: index of the first item asked for.
        found: [asked, count], filled with -1; becomes the neighbours.
        strength: [asked, count], filled with 0; becomes their similarities.
    """
    items, count = len(factors), found.shape[1]
    products = np.zeros(items, dtype=np.float32)
    values = np.zeros(items, dtype=np.float32)
    for asked in range(len(own_indptr) - 1):
        for entry in range(own_indptr[asked], own_indptr[asked + 1]):
            row, weight = own_rows[entry], own_data[entry]
            basket = columns[indptr[row] : indptr[row + 1]]
            values_of_row = data[indptr[row] : indptr[row + 1]]
            for position in range(len(basket)):
                # Unsigned: spares the test for a negative index, a tenth of the time.
                products[np.uint32(basket[position])] += weight * values_of_row[position]
        item = start + asked
        products[item] = 0
        factor, summand = factors[item], summands[item] + shrink
        for other in range(items):
            product = products[other]
            values[other] = product / (
                factor * factors[other] + summand + summands[other] - overlap * product
            )
        products[:] = 0
        best, who = strength[asked], found[asked]
        kept, weakest = 0, np.float32(0)
        for other in range(items):
            value = values[other]
            # Strictly stronger: of equals, the lower index came first and stays ahead.
            if value > weakest:
                kept = min(kept + 1, count)
                place = kept - 1
                while place > 0 and best[place - 1] < value:
                    best[place], who[place] = best[place - 1], who[place - 1]
                    place -= 1
                best[place], who[place] = value, other
                if kept == count:
                    weakest = best[count - 1]
