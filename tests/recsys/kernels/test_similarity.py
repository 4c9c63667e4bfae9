"""Item-item similarities against dense formulas."""

from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernels import similarity as kernel
from recsys.kernels.similarity import Similarity
from tests.oracles import similarities as oracle

NAMES = get_args(Similarity)


def random_matrix(seed: int, rows: int = 14, items: int = 8) -> NDArray[np.float64]:
    """Weighted entries; some rows and maybe items stay empty."""
    random = np.random.default_rng(seed)
    return random.integers(1, 9, (rows, items)) / 4 * (random.random((rows, items)) < 0.3)


def neighbours(
    dense: NDArray[np.float64], name: Similarity, shrink: float, count: int, start: int = 0
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Weigh as a fit does, then ask the kernel for the items from `start` on."""
    raw = dense if name == "cosine" else (dense > 0).astype(float)
    rows, items = kernel.row_and_item_weights(
        name, (dense > 0).sum(axis=1), (dense > 0).sum(axis=0)
    )
    weighted = sp.csr_matrix((raw * rows[:, None] * items).astype(np.float32))
    norms = np.asarray(weighted.multiply(weighted).sum(axis=0), dtype=np.float64).ravel()
    block = sp.csr_matrix(weighted[:, start:].T)
    return kernel.neighbours_of(block, weighted, norms, start, name, shrink, count)


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


@pytest.mark.parametrize("name", NAMES)
def test_chunks_do_not_matter(name: Similarity, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = random_matrix(11)
    whole = neighbours(dense, name, 1, 5)
    monkeypatch.setattr(kernel, "CELLS_A_CHUNK", 2 * dense.shape[1])
    for one, other in zip(whole, neighbours(dense, name, 1, 5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_bought_gives_no_neighbours() -> None:
    found, strength = neighbours(np.zeros((3, 2)), "bm25", 1, 2)
    assert (found == -1).all()
    assert not strength.any()
