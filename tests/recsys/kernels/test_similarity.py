"""Item-item similarities against dense formulas."""

import resource
from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernels import similarity as kernel
from recsys.kernels.blocks import Block
from recsys.kernels.similarity import Similarity
from tests.oracles import similarities as oracle

NAMES = get_args(Similarity)
Matrix = NDArray[np.float64]


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Compile first: Hypothesis takes a slow first example for a failure."""
    neighbours(np.ones((1, 2)), "cosine", 0, 1)


def random_matrix(seed: int, rows: int = 14, items: int = 8) -> Matrix:
    """Weighted entries; some rows and maybe items stay empty."""
    random = np.random.default_rng(seed)
    return random.integers(1, 9, (rows, items)) / 4 * (random.random((rows, items)) < 0.3)


def weigh(dense: Matrix, name: Similarity) -> tuple[sp.csr_matrix, Matrix]:
    """Weigh as a fit does; also return the items' squared lengths."""
    raw = dense if name == "cosine" else (dense > 0).astype(float)
    rows, items = kernel.row_and_item_weights(
        name, (dense > 0).sum(axis=1), (dense > 0).sum(axis=0)
    )
    weighted = sp.csr_matrix((raw * rows[:, None] * items).astype(np.float32))
    return weighted, np.asarray(weighted.multiply(weighted).sum(axis=0), dtype=float).ravel()


def neighbours(
    dense: Matrix, name: Similarity, shrink: float, count: int, start: int = 0
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ask the kernel for the items from `start` on."""
    weighted, norms = weigh(dense, name)
    return kernel.neighbours_of(weighted, norms, start, dense.shape[1], name, shrink, count)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    shrink=st.sampled_from([0.0, 0.5, 10.0]),
    count=st.integers(1, 9),
    start=st.sampled_from([0, 3]),
)
def test_equals_the_dense_formula(
    name: Similarity, seed: int, shrink: float, count: int, start: int
) -> None:
    dense = random_matrix(seed)
    expected = oracle.similarity(dense, name, shrink)
    found, strength = neighbours(dense, name, shrink, count, start)
    for item, (others, values) in enumerate(zip(found, strength, strict=True), start=start):
        best = sorted((v for j, v in enumerate(expected[item]) if j != item and v), reverse=True)
        kept = others[others >= 0]
        assert len(kept) == min(count, len(best))
        assert item not in kept
        assert len(set(kept)) == len(kept)
        np.testing.assert_allclose(values[: len(kept)], best[: len(kept)], rtol=1e-5)
        np.testing.assert_allclose(values[: len(kept)], expected[item, kept], rtol=1e-5)
        assert not values[len(kept) :].any()
        assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize("name", ["cosine", "jaccard", "lift"])
def test_ties_go_to_the_lower_index(name: Similarity) -> None:
    everybody_buys_all = np.ones((3, 5))
    found, _ = neighbours(everybody_buys_all, name, 0, 2)
    assert found.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def test_cosine_by_hand() -> None:
    # Items 0 and 1 share one of their two buyers each: 1 / (√2 · √2) = ½; with shrink 2, ¼.
    dense = np.array([[1.0, 1, 0], [1, 0, 0], [0, 1, 0]])
    for shrink, expected in ((0, 0.5), (2, 0.25)):
        found, strength = neighbours(dense, "cosine", shrink, 2)
        assert found.tolist() == [[1, -1], [0, -1], [-1, -1]]
        assert strength[0].tolist() == pytest.approx([expected, 0])


def test_lift_does_not_count_rows_without_items() -> None:
    dense = random_matrix(4)
    more = np.vstack([dense, np.zeros((30, dense.shape[1]))])
    for one, other in zip(
        neighbours(dense, "lift", 5, 4), neighbours(more, "lift", 5, 4), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 9))
def test_many_ties_are_ordered_as_the_formula_orders_them(seed: int, count: int) -> None:
    # Shared buyers over all buyers, in whole numbers: equal values are equal to the last bit.
    dense = (random_matrix(seed, rows=5) > 0).astype(float)
    expected = oracle.similarity(dense, "jaccard", 0)
    found, _ = neighbours(dense, "jaccard", 0, count)
    for item, others in enumerate(found):
        assert others[others >= 0].tolist() == oracle.strongest(expected, item, count)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 7, 29])
def test_ranges_of_items_do_not_matter(name: Similarity, size: int) -> None:
    dense = random_matrix(11, rows=60, items=30)
    weighted, norms = weigh(dense, name)
    whole = kernel.neighbours_of(weighted, norms, 0, 30, name, 1, 5)
    parts = [
        kernel.neighbours_of(weighted, norms, start, min(30, start + size), name, 1, 5)
        for start in range(0, 30, size)
    ]
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert one.tobytes() == np.concatenate(pieces).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_one_customer_only(name: Similarity) -> None:
    found, strength = neighbours(np.array([[1.0, 0, 2, 4]]), name, 0, 9)
    assert found[:, :3].tolist() == [[2, 3, -1], [-1, -1, -1], [0, 3, -1], [0, 2, -1]]
    assert (found[:, 3:] == -1).all()
    assert np.isfinite(strength).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_item_without_buyers_has_no_neighbours_and_is_none(name: Similarity) -> None:
    dense = random_matrix(2, rows=40)
    dense[:, 3] = 0
    found, strength = neighbours(dense, name, 0, 8)
    assert (found[3] == -1).all()
    assert 3 not in found
    assert np.isfinite(strength).all()


def test_a_heavy_row_takes_little_memory() -> None:
    # All pairs of its items at once would take 1.6 GB as float32.
    items, before = 20_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    matrix = sp.csr_matrix(np.ones((1, items), dtype=np.float32))
    found, _ = kernel.neighbours_of(matrix, np.ones(items), 0, items, "cosine", 0, 2)
    assert found[[0, 1, 2, -1]].tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def block_of(rows: list[list[tuple[int, int]]]) -> Block:
    """Pack (item, day) events of each row."""
    events = [event for row in rows for event in sorted(row)]
    columns, days = (np.array(values, dtype=np.int32) for values in zip(*events, strict=True))
    ones = np.ones(len(events), dtype=np.float32)
    return Block(0, np.cumsum([0, *map(len, rows)]), columns, days, ones, ones)


def test_a_heavy_row_keeps_its_newest_items_with_all_their_events() -> None:
    # Last met: item 4 on day 9, item 0 on day 7, items 1 and 2 on day 5, item 3 on day 1.
    heavy = [(0, 1), (0, 7), (1, 5), (2, 5), (3, 1), (4, 2), (4, 9)]
    light = [(3, 1), (3, 2), (3, 3), (3, 4)]
    for most, items in ((5, [0, 0, 1, 2, 3, 4, 4]), (3, [0, 0, 1, 4, 4]), (1, [4, 4])):
        kept = kernel.newest_items(block_of([light, heavy]), most)
        assert kept.indptr.tolist() == [0, 4, 4 + len(items)]
        assert kept.columns.tolist() == [3, 3, 3, 3, *items]


def test_nothing_bought_gives_no_neighbours() -> None:
    found, strength = neighbours(np.zeros((3, 2)), "bm25", 1, 2)
    assert (found == -1).all()
    assert not strength.any()
