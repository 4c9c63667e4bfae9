"""ALS: its loss, its agreement with implicit, and who takes part."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from pyspark.sql import SparkSession

from recsys.data.dataset import History
from recsys.errors import ModelError
from recsys.kernels.als import start_factors
from recsys.models import arrays
from recsys.models.als import Als, AlsParameters, AlsScorer
from tests.oracles import als as oracle
from tests.recsys.builders import Event, history_of

CUSTOMERS, ITEMS, GUESTS, CUT = 40, 25, 6, 50
PARAMETERS = AlsParameters(
    factors=6, iterations=4, regularization=1.5, alpha=3.0, half_life_days=20
)


def drawn_events() -> list[Event]:
    random = np.random.default_rng(12)
    return [
        (row, int(item), int(day))
        for row in range(CUSTOMERS)
        for item, day in zip(random.integers(0, ITEMS, 6), random.integers(0, CUT, 6), strict=True)
    ]


def confidences(events: list[Event]) -> sp.csr_matrix:
    """Weigh each day's purchase by its age, and sum."""
    dense = np.zeros((CUSTOMERS, ITEMS))
    for row, item, day in set(events):
        dense[row, item] += PARAMETERS.alpha * 0.5 ** ((CUT - day) / 20)
    return sp.csr_matrix(dense.astype(np.float32))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """With guests' baskets, and purchases from the cut on, neither of which may take part."""
    guests = [(CUSTOMERS + n, item, 3) for n in range(GUESTS) for item in (n, n + 5)]
    later = [(n, n % ITEMS, CUT + n % 3) for n in range(CUSTOMERS)]
    events = [*drawn_events(), *guests, *later]
    folder = tmp_path_factory.mktemp("als") / "history"
    return history_of(folder, events, CUSTOMERS, ITEMS, CUT, GUESTS)


@pytest.fixture(scope="module")
def fitted(
    spark: SparkSession, history: History, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AlsScorer, list[float]]:
    folder = tmp_path_factory.mktemp("fitted")
    steps = Als(PARAMETERS).fit(spark, history, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "customer_factors.npy",
        "item_factors.npy",
    ]
    found = arrays.read_all(folder)
    scorer = AlsScorer(found["customer_factors"], found["item_factors"], PARAMETERS)
    return scorer, [step["loss"] for step in steps]


def test_the_loss_falls_with_every_iteration(fitted: tuple[AlsScorer, list[float]]) -> None:
    _, losses = fitted
    assert len(losses) == PARAMETERS.iterations
    assert (np.diff(losses) < 0).all()


def test_the_last_loss_is_that_of_the_factors(fitted: tuple[AlsScorer, list[float]]) -> None:
    scorer, losses = fitted
    expected = oracle.loss(
        confidences(drawn_events()).toarray().astype(float),
        scorer.customer_factors.astype(float),
        scorer.item_factors.astype(float),
        PARAMETERS.regularization,
    )
    assert losses[-1] == pytest.approx(expected / (CUSTOMERS * ITEMS), rel=1e-4)


def test_agrees_with_implicit_from_the_same_start(fitted: tuple[AlsScorer, list[float]]) -> None:
    scorer, _ = fitted
    model = AlternatingLeastSquares(
        factors=PARAMETERS.factors,
        regularization=PARAMETERS.regularization,
        iterations=PARAMETERS.iterations,
        num_threads=1,
    )
    model.user_factors = np.zeros((CUSTOMERS, PARAMETERS.factors), dtype=np.float32)
    model.item_factors = start_factors(ITEMS, PARAMETERS.factors, PARAMETERS.seed)
    model.fit(confidences(drawn_events()), show_progress=False)
    for ours, theirs in (
        (scorer.customer_factors, model.user_factors),
        (scorer.item_factors, model.item_factors),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_folding_in_solves_for_the_customer_exactly(
    fitted: tuple[AlsScorer, list[float]],
) -> None:
    scorer, _ = fitted
    weights = confidences(drawn_events())[:5] / np.float32(PARAMETERS.alpha)
    expected = oracle.ridge(
        (weights.toarray() * PARAMETERS.alpha).astype(float),
        scorer.item_factors.astype(float),
        PARAMETERS.regularization,
    )
    np.testing.assert_allclose(scorer.fold_in(weights), expected, rtol=1e-2, atol=1e-3)


def test_a_new_customer_is_folded_in_among_known_ones(
    fitted: tuple[AlsScorer, list[float]],
) -> None:
    scorer, _ = fitted
    weights = confidences(drawn_events())[:3] / np.float32(PARAMETERS.alpha)
    found = scorer.personal(np.array([0, CUSTOMERS, 2]), weights)
    items = scorer.item_factors.T
    np.testing.assert_allclose(found[[0, 2]], scorer.customer_factors[[0, 2]] @ items, rtol=1e-5)
    np.testing.assert_allclose(found[1], scorer.fold_in(weights[1])[0] @ items, rtol=1e-5)


def test_a_fit_that_diverges_says_so(spark: SparkSession, tmp_path: Path, history: History) -> None:
    wild = AlsParameters(factors=4, iterations=2, regularization=0, alpha=1e38)
    with pytest.raises(ModelError, match="diverged .*raise regularization or lower alpha"):
        Als(wild).fit(spark, history, tmp_path)
