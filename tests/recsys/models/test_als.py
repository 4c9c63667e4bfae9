"""ALS: its loss, its agreement with implicit, and who takes part."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from pyspark.sql import SparkSession

from recsys.data.dataset import History
from recsys.errors import ModelError
from recsys.kernels import blocks as blocks_module
from recsys.kernels.als import start_factors
from recsys.kernels.blocks import Blocks
from recsys.models import als as als_module
from recsys.models import arrays, checkpoint
from recsys.models.als import Als, AlsParameters, AlsScorer
from recsys.models.alternation import Side
from recsys.progress import Counter
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
    return scorer, [steps[step]["loss"] for step in sorted(steps)]


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


def fit_bytes(
    spark: SparkSession, history: History, folder: Path, kept: Path | None = None
) -> dict[str, bytes]:
    """Fit, and return each array's bytes."""
    folder.mkdir()
    Als(PARAMETERS).fit(spark, history, folder, kept)
    return {name: array.tobytes() for name, array in arrays.read_all(folder).items()}


def test_the_number_of_tasks_changes_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "FEWEST_BLOCKS", 10)
    many = history_of(tmp_path / "history", drawn_events(), CUSTOMERS, ITEMS, CUT)
    found = []
    for tasks in (1, 2, 4, 4):
        monkeypatch.setattr(als_module, "even_tasks", lambda *_, tasks=tasks: tasks)
        sides = Side.of("customers", many.customer_blocks, CUSTOMERS, ITEMS, tasks)
        assert len(sides.parts) == tasks
        found.append(fit_bytes(spark, many, tmp_path / f"{len(found)}"))
    assert all(other == found[0] for other in found)


@given(events=st.lists(st.integers(0, 1000), min_size=1, max_size=40), tasks=st.integers(1, 12))
def test_parts_hold_every_block_once_in_order(events: list[int], tasks: int) -> None:
    blocks = Blocks("", 3 * len(events) - 1, 3, tuple(events))
    side = Side.of("customers", blocks, blocks.rows, 5, tasks)
    assert [n for part in side.parts for n in part] == list(range(len(events)))
    assert len(side.parts) <= tasks
    bounds = [side.bounds(part) for part in range(len(side.parts))]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == blocks.rows
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))


class Killed(Exception):  # noqa: N818
    """Stands for the end of the driver."""


def kill_after(iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next fit break down as soon as it has counted an iteration."""

    def show(self: Counter, done: int, told: str = "") -> None:
        if done == iteration:
            raise Killed

    monkeypatch.setattr(als_module.Counter, "show", show)


def test_a_fit_goes_on_from_its_checkpoint(
    spark: SparkSession, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit_bytes(spark, history, tmp_path / "whole")
    kept = tmp_path / "checkpoints" / "als"
    monkeypatch.setattr(als_module, "CHECKPOINT_EVERY", 2)
    with monkeypatch.context() as patch:
        kill_after(3, patch)
        with pytest.raises(Killed):
            fit_bytes(spark, history, tmp_path / "killed", kept)
    state = checkpoint.load(kept, {})
    assert state is not None
    assert state.iteration == 2
    solved = []
    solve = als_module.half
    monkeypatch.setattr(als_module, "half", lambda *a: (solved.append(a[2].name), solve(*a))[1])
    assert fit_bytes(spark, history, tmp_path / "resumed", kept) == whole
    assert len(solved) == 2 * (PARAMETERS.iterations - 2)
    assert not kept.parent.exists()


@pytest.mark.parametrize("damage", ["no json", "other shape", "not a number"])
def test_a_checkpoint_that_is_damaged_is_not_used(
    damage: str,
    spark: SparkSession,
    history: History,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = tmp_path / "checkpoints" / "als"
    values = np.zeros((CUSTOMERS, PARAMETERS.factors), dtype=np.float32)
    if damage == "other shape":
        values = values[1:]
    elif damage == "not a number":
        values[0, 0] = np.nan
    arrays.write(tmp_path, "customers", values)
    arrays.write(tmp_path, "items", np.ones((ITEMS, PARAMETERS.factors), dtype=np.float32))
    names = {f"{name}_factors": f"{name}s" for name in ("customer", "item")}
    checkpoint.save(kept, 2, {}, tmp_path, names)
    if damage == "no json":
        (kept / checkpoint.STATE).write_text("{")
    anew = fit_bytes(spark, history, tmp_path / "anew", kept)
    assert "cannot be used" in capsys.readouterr().out
    assert anew == fit_bytes(spark, history, tmp_path / "whole")


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_fit(
    spark: SparkSession,
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(als_module, "CHECKPOINT_EVERY", 2)
    (tmp_path / "file").write_text("in the way")
    fit_bytes(spark, history, tmp_path / "fitted", tmp_path / "file" / "als")
    assert "no checkpoint after iteration 2" in capsys.readouterr().out


def test_factors_that_are_no_numbers_stop_the_fit(
    spark: SparkSession, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they spread to every other row in the next half-iteration."""

    def start(rows: int, factors: int, seed: int) -> np.ndarray:
        drawn = start_factors(rows, factors, seed)
        drawn[3, 1] = np.nan
        return drawn

    monkeypatch.setattr(als_module.kernel, "start_factors", start)
    with pytest.raises(ModelError, match="diverged"):
        Als(PARAMETERS).fit(spark, history, tmp_path)


def test_one_customer_and_more_factors_than_items(spark: SparkSession, tmp_path: Path) -> None:
    events: list[Event] = [(0, 0, 10), (0, 2, 20)]
    tiny = history_of(tmp_path / "history", events, customers=1, items=4, before=CUT)
    parameters = AlsParameters(factors=32, iterations=3, regularization=0.1)
    (tmp_path / "fitted").mkdir()
    Als(parameters).fit(spark, tiny, tmp_path / "fitted")
    found = arrays.read_all(tmp_path / "fitted")
    scores = found["customer_factors"] @ found["item_factors"].T
    assert np.isfinite(scores).all()
    # Items that nobody bought have nothing to say, and those bought come first.
    assert (found["item_factors"][[1, 3]] == 0).all()
    assert set(np.argsort(-scores[0])[:2]) == {0, 2}
