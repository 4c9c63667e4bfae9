"""The one path to a ranking, held to a slow and plain one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys import scoring
from recsys.errors import ModelError, UsageError
from recsys.kernels import blocks
from recsys.models.base import Hyperparameters
from recsys.ranker import FOLD_IN, MODEL, POPULARITY, Customers, Ranker, Ranking
from recsys.scoring import Plan, check_k, rank_block, read_ids
from recsys.strategy import Seen
from tests.recsys.builders import Dots, history_of

POLICIES: tuple[Seen, ...] = ("exclude", "allow")


@dataclass
class Fixed:
    """A scorer whose scores are given."""

    scores: NDArray[np.float32]

    def personal(self, rows: NDArray[np.int64], weights: sp.csr_matrix) -> NDArray[np.float32]:
        return self.scores.copy()


@dataclass
class Case:
    """Random scores with ties and silence, purchases, trend, and ids in no order."""

    scores: NDArray[np.float32]
    purchases: NDArray[np.float32]
    trend: NDArray[np.float32]
    ids: NDArray[np.str_]
    k: int
    parameters: Hyperparameters

    def rank(self, policy: Seen) -> Ranking:
        ranker = Ranker(
            Fixed(self.scores), self.parameters, self.trend[None, :], self.ids, known_customers=1
        )
        bought = sp.csr_matrix(self.purchases)
        rows = np.arange(len(self.scores))
        return ranker.rank(Customers(rows, bought, bought), self.k, (policy,))[0]

    def expected(self, row: int, policy: Seen) -> list[tuple[int, int]]:
        """Return (item, source) by sorting one item after another."""
        model: list[tuple[float, str, int]] = []
        rest: list[tuple[float, str, int]] = []
        for item, raw in enumerate(self.scores[row]):
            own = self.purchases[row, item]
            if policy == "exclude" and own > 0:
                continue
            prior = self.trend[item] ** np.float32(self.parameters.trend_power)
            score = np.float32(raw) * prior
            if policy == "allow" and own > 0 and self.parameters.repeat_weight > 0:
                base = np.float32(0) if np.isneginf(score) else score
                score = base + np.float32(self.parameters.repeat_weight) * own
            if np.isneginf(score):
                rest.append((-float(self.trend[item]), str(self.ids[item]), item))
            else:
                model.append((-float(score), str(self.ids[item]), item))
        source = MODEL if row < 1 else FOLD_IN
        ranked = [(item, source) for _, _, item in sorted(model)]
        ranked += [(item, POPULARITY) for _, _, item in sorted(rest)]
        return ranked[: self.k]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    customers, items = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    scores = random.choice([0.25, 0.5, 1.0, -0.5], (customers, items)).astype(np.float32)
    scores[random.random(scores.shape) < draw(st.sampled_from([0.0, 0.4, 1.0]))] = -np.inf
    purchases = random.choice([0, 0, 0.5, 1], (customers, items)).astype(np.float32)
    ids = np.array([f"{n:03d}" for n in random.permutation(items)])
    parameters = Hyperparameters(
        trend_power=draw(st.sampled_from([0.0, 1.0])),
        repeat_weight=draw(st.sampled_from([0.0, 2.0])),
    )
    trend = random.choice([0.25, 0.5, 1.0], items).astype(np.float32)
    return Case(scores, purchases, trend, ids, draw(st.integers(1, 14)), parameters)


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from(["exclude", "allow"]))
def test_a_ranking_equals_the_plain_one(case: Case, policy: Seen) -> None:
    ranking = case.rank(policy)
    for row in range(len(case.scores)):
        given_items = ranking.items[row] >= 0
        found = list(
            zip(
                ranking.items[row][given_items].tolist(),
                ranking.sources[row][given_items].tolist(),
                strict=True,
            )
        )
        assert found == case.expected(row, policy)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_discover_gives_as_many_distinct_new_items_as_there_are(case: Case) -> None:
    ranking = case.rank("exclude")
    for row in range(len(case.scores)):
        items = ranking.items[row][ranking.items[row] >= 0]
        allowed = np.flatnonzero(case.purchases[row] == 0)
        assert len(items) == len(set(items)) == min(case.k, len(allowed))
        assert set(items) <= set(allowed)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.sampled_from([0.0, 2.0]))
def test_searching_factors_gives_the_same_lists_as_scoring_everything(
    seed: int, k: int, repeat_weight: float
) -> None:
    random = np.random.default_rng(seed)
    customers, items = 5, int(random.integers(1, 40))
    factors = random.integers(-2, 3, (items, 3)).astype(np.float32)
    dots = Dots(random.integers(-2, 3, (customers, 3)).astype(np.float32), factors)
    dots.customers[0] = 0
    bought = random.choice([0, 0, 0.5, 1], (customers, items)).astype(np.float32)
    trend = random.choice([0.25, 0.5, 1.0], (1, items)).astype(np.float32)
    ids = np.array([f"{n:03d}" for n in random.permutation(items)])
    parameters = Hyperparameters(trend_power=1.0, repeat_weight=repeat_weight)
    plain = Fixed(dots.personal(np.arange(customers), sp.csr_matrix(bought)))
    rankers = [Ranker(scorer, parameters, trend, ids, 3) for scorer in (dots, plain)]
    assert [ranker.catalogue is None for ranker in rankers] == [False, True]
    rows, history = np.arange(customers), sp.csr_matrix(bought)
    lists = [ranker.rank(Customers(rows, history, history), k, POLICIES) for ranker in rankers]
    for found, expected in zip(*lists, strict=True):
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.sources, expected.sources)


@pytest.mark.parametrize("spoilt", ["customer", "item"])
def test_factors_that_are_no_numbers_are_refused(spoilt: str) -> None:
    """Every comparison with them is false, so a search would pass over them in silence."""
    dots = Dots(np.ones((2, 3), dtype=np.float32), np.ones((4, 3), dtype=np.float32))
    (dots.customers if spoilt == "customer" else dots.item_factors)[1, 1] = np.nan
    nothing = sp.csr_matrix((2, 4), dtype=np.float32)
    ids = np.array([f"{n}" for n in range(4)])
    with pytest.raises(ModelError, match=f"{spoilt} factors that are not numbers: train it again"):
        ranker = Ranker(dots, Hyperparameters(), np.ones((1, 4), np.float32), ids, 2)
        ranker.rank(Customers(np.arange(2), nothing, nothing), 2, ("exclude",))


def test_a_customer_who_bought_100_000_items_is_ranked() -> None:
    items = 100_010
    random = np.random.default_rng(2)
    dots = Dots(np.ones((2, 4), np.float32), random.random((items, 4), dtype=np.float32))
    bought = sp.lil_matrix((2, items), dtype=np.float32)
    bought[0, :100_000] = 1
    history = bought.tocsr()
    ids = np.array([f"{n:06d}" for n in range(items)])
    ranker = Ranker(dots, Hyperparameters(), np.ones((1, items), np.float32), ids, 2)
    new, own = ranker.rank(Customers(np.arange(2), history, history), 20, POLICIES)
    assert sorted(new.items[0, :10]) == list(range(100_000, items))
    assert (new.items[0, 10:] == -1).all()
    assert (own.items >= 0).all()


def test_a_customer_follows_the_trend_of_their_segment() -> None:
    trends = np.array([[1.0, 0.5], [0.25, 1.0]], dtype=np.float32)
    ranker = Ranker(
        Fixed(np.ones((2, 2), dtype=np.float32)),
        Hyperparameters(trend_power=1),
        trends,
        np.array(["a", "b"]),
        known_customers=2,
    )
    nothing = sp.csr_matrix((2, 2), dtype=np.float32)
    customers = Customers(np.arange(2), nothing, nothing, trend=np.array([0, 1]))
    (ranking,) = ranker.rank(customers, 2, ("exclude",))
    assert ranking.items.tolist() == [[0, 1], [1, 0]]


def test_k_below_1_is_refused() -> None:
    with pytest.raises(UsageError, match="k=0 .*at least 1"):
        check_k(0, 10)


def test_k_above_the_catalogue_is_refused() -> None:
    with pytest.raises(UsageError, match="k=11 is more than the 10 items"):
        check_k(11, 10)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_scores_of_a_source_never_rise_along_a_list(case: Case) -> None:
    ranking = case.rank("allow")
    for source in (MODEL, FOLD_IN, POPULARITY):
        for scores, sources in zip(ranking.scores, ranking.sources, strict=True):
            assert (np.diff(scores[sources == source]) <= 0).all()
    # Popularity comes only behind what the recommender had to say.
    assert (np.diff(ranking.sources == POPULARITY, axis=1) >= 0)[ranking.items[:, 1:] >= 0].all()


def test_a_huge_power_of_the_trend_keeps_silence_silent() -> None:
    case = Case(
        scores=np.array([[-np.inf, 1.0, 1.0]], dtype=np.float32),
        purchases=np.zeros((1, 3), dtype=np.float32),
        trend=np.array([1e-3, 1e-3, 1.0], dtype=np.float32),
        ids=np.array(["a", "b", "c"]),
        k=3,
        parameters=Hyperparameters(trend_power=50),
    )
    ranking = case.rank("exclude")
    assert ranking.items.tolist() == [[2, 1, 0]]
    assert ranking.sources.tolist() == [[MODEL, MODEL, POPULARITY]]


@pytest.mark.parametrize("cells", [1, 60, 10_000])
def test_chunks_of_customers_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    random = np.random.default_rng(1)
    personal = random.random((12, 20)).astype(np.float32)

    class ByRow(Fixed):
        def personal(self, rows: NDArray[np.int64], weights: sp.csr_matrix) -> NDArray[np.float32]:
            return np.array(self.scores[rows])

    monkeypatch.setattr(blocks, "FEWEST_BLOCKS", 4)
    draws = random.integers(0, [12, 20, 50], (60, 3)).tolist()
    history = history_of(tmp_path, [(r, i, d) for r, i, d in draws], 12, 20, 50)
    ids = read_ids(history.tables, "items", "item_id", 20)
    ranker = Ranker(ByRow(personal), Hyperparameters(), np.ones((1, 20), np.float32), ids, 12)
    monkeypatch.setattr(scoring, "open_ranker", lambda plan: ranker)
    monkeypatch.setattr(scoring, "SCORES_A_CHUNK", cells)
    plan = Plan("popularity", "{}", "", 12, "", history)
    wanted = np.array([True, False, True])
    found: dict[int, list[int]] = {}
    for block in history.customer_blocks:
        for local, (ranking,) in rank_block(plan, block, wanted, 5, ("exclude",)):
            assert cells > 20 or len(local) == 1
            found |= dict(zip((local + block.start).tolist(), ranking.items.tolist(), strict=True))
    bought = {(row, item) for row, item, _ in draws}
    expected = {
        row: sorted((i for i in range(20) if (row, i) not in bought), key=lambda i: -scores[i])[:5]
        for row, scores in enumerate(personal)
        if row % 3 != 1
    }
    assert found == expected


def test_ids_of_a_dataset_that_was_replaced_are_read_again(tmp_path: Path) -> None:
    for name, ids in (("old", ["1", "2"]), ("new", ["1", "3"])):
        (tmp_path / name / "items").mkdir(parents=True)
        pq.write_table(pa.table({"item_id": ids}), tmp_path / name / "items" / "part-0.parquet")
    (tmp_path / "old").rename(tmp_path / "dataset")
    assert read_ids(str(tmp_path / "dataset"), "items", "item_id", 2).tolist() == ["1", "2"]
    (tmp_path / "dataset").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "dataset")
    assert read_ids(str(tmp_path / "dataset"), "items", "item_id", 2).tolist() == ["1", "3"]
