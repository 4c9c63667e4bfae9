"""One contract for every recommender: what a fit, its scores and its files promise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset, load_dataset
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from recsys.errors import ModelError, UsageError
from recsys.kernels import blocks
from recsys.models import ALGORITHMS, arrays, files
from recsys.models.base import Hyperparameters
from recsys.models.trend import trend_counts

SMALL: dict[str, dict[str, Any]] = {
    "popularity": {},
    "item_item": {"neighbours": 4, "trend_power": 0},
    "als": {"factors": 4, "regularization": 0.1, "alpha": 10, "trend_power": 0},
}
GROUPS, ITEMS_A_GROUP, CUSTOMERS_A_GROUP = 3, 5, 8
CUT_DAY = 100
Row = tuple[str | None, str, int]


def checkerboard() -> list[Row]:
    """Each group of customers buys its own five items; customer n leaves out item n modulo 5."""
    return [
        (f"{group}{customer:02d}", f"{group}-{item}", 10 + item)
        for group in range(GROUPS)
        for customer in range(CUSTOMERS_A_GROUP)
        for item in range(ITEMS_A_GROUP)
        if item != customer % ITEMS_A_GROUP
    ]


LATER: list[Row] = [
    ("000", "0-0", CUT_DAY),
    ("101", "1-1", CUT_DAY + 1),
    ("202", "2-2", CUT_DAY + 2),
]


def dataset_of(spark: SparkSession, folder: Path, rows: list[Row]) -> Dataset:
    """Prepare rows (customer, item, day) with one day of validation and one of test at the end."""
    interactions = spark.createDataFrame(
        [(c, i, f"{c}-{d}", d, 1.0, 2.0) for c, i, d in rows],
        "customer_id string, item_id string, basket_id string, day int, quantity double, "
        "unit_price double",
    ).selectExpr(
        "customer_id", "item_id", "basket_id",
        "timestamp_seconds(day * 86400 + 3600) as timestamp", "quantity", "unit_price",
    )  # fmt: skip
    interactions.write.parquet(str(folder / "interactions"))
    split = Split(test_days=1, validation_days=1)
    return prepare(spark, read_tables(spark, folder), folder / "dataset", split)


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return dataset_of(spark, tmp_path_factory.mktemp("board"), checkerboard() + LATER)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parameters_of(algorithm: str) -> Hyperparameters:
    return ALGORITHMS[algorithm].parameters_class(**SMALL[algorithm])


@pytest.fixture
def fit(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, algorithm: str
) -> Callable[[Dataset], tuple[Path, dict[str, NDArray[Any]]]]:
    def fitted(dataset: Dataset) -> tuple[Path, dict[str, NDArray[Any]]]:
        folder = tmp_path_factory.mktemp("fitted")
        recommender = ALGORITHMS[algorithm](parameters_of(algorithm))
        recommender.fit(spark, dataset.test.history, folder)
        return folder, {name: np.array(a) for name, a in arrays.read_all(folder).items()}

    return fitted


def history_matrix(dataset: Dataset, parameters: Hyperparameters) -> sp.csr_matrix:
    """Return the weighted history of all customers before the test cut."""
    history = dataset.test.history
    return sp.vstack(
        [
            parameters.matrix(
                block.take(history.customers).before(history.before), history.before, history.items
            )
            for block in history.customer_blocks
        ]
    ).tocsr()


def test_the_missing_item_of_the_group_comes_first(
    dataset: Dataset, algorithm: str, fit: Callable[..., Any]
) -> None:
    if algorithm == "popularity":
        pytest.skip("popularity knows no groups")
    parameters = parameters_of(algorithm)
    weights = history_matrix(dataset, parameters)
    scorer = ALGORITHMS[algorithm](parameters).open(fit(dataset)[1])
    scores = scorer.personal(np.arange(weights.shape[0]), weights)
    scores[weights.nonzero()] = -np.inf
    before_cut = checkerboard() + LATER[:1] + LATER[1:2]
    items = sorted({item for _, item, _ in before_cut})
    bought: dict[str, set[str]] = {}
    for customer, item, _ in before_cut:
        bought.setdefault(str(customer), set()).add(item)
    for row, customer in enumerate(sorted(bought)):
        group = {f"{customer[0]}-{item}" for item in range(ITEMS_A_GROUP)}
        missing = group - bought[customer]
        if missing:
            assert items[int(scores[row].argmax())] in missing


def test_scores_have_a_place_for_each_item_and_no_nan(
    dataset: Dataset, algorithm: str, fit: Callable[..., Any]
) -> None:
    parameters = parameters_of(algorithm)
    weights = history_matrix(dataset, parameters)
    scorer = ALGORITHMS[algorithm](parameters).open(fit(dataset)[1])
    scores = scorer.personal(np.arange(weights.shape[0]), weights)
    assert scores.shape == weights.shape
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()


def test_a_customer_new_to_the_fit_is_scored_from_their_history(
    dataset: Dataset, algorithm: str, fit: Callable[..., Any]
) -> None:
    parameters = parameters_of(algorithm)
    weights = history_matrix(dataset, parameters)[:1]
    scorer = ALGORITHMS[algorithm](parameters).open(fit(dataset)[1])
    scores = scorer.personal(np.array([10_000]), weights)
    assert np.isfinite(scores).any()


def test_a_refit_is_bit_identical(dataset: Dataset, fit: Callable[..., Any]) -> None:
    first, second = fit(dataset)[1], fit(dataset)[1]
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_the_number_of_blocks_does_not_matter(
    spark: SparkSession,
    dataset: Dataset,
    fit: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "FEWEST_BLOCKS", 1)
    one = dataset_of(spark, tmp_path, checkerboard() + LATER)
    assert len(one.test.history.customer_blocks.numbers) == 1
    assert len(dataset.test.history.customer_blocks.numbers) == 4
    first, second = fit(dataset)[1], fit(one)[1]
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_what_happens_after_the_cut_changes_nothing(
    spark: SparkSession, dataset: Dataset, fit: Callable[..., Any], tmp_path: Path
) -> None:
    # The same before the cut; after it a new customer, a new item that would predict perfectly,
    # and other purchases.
    canary: list[Row] = [("000", "canary", CUT_DAY + 2), ("new", "canary", CUT_DAY + 2)]
    changed = dataset_of(spark, tmp_path, checkerboard() + LATER[:2] + canary)
    before, after = dataset.test.history, changed.test.history
    assert (before.items, before.customers, before.before) == (
        after.items,
        after.customers,
        after.before,
    )
    first, second = fit(dataset)[1], fit(changed)[1]
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_array_equal(trend_counts(spark, before, 7.0), trend_counts(spark, after, 7.0))
    assert dataset.digest != changed.digest


def save(dataset: Dataset, algorithm: str, fitted: Path, folder: Path) -> str:
    history = dataset.test.history
    header = files.Header(
        algorithm,
        parameters_of(algorithm),
        dataset.digest,
        history.before,
        history.customers,
        history.items,
    )
    trend = np.linspace(0.1, 1, history.items, dtype=np.float32)
    return files.save(fitted, header, history, trend, folder)


def test_saving_and_loading_gives_the_same_arrays(
    dataset: Dataset, algorithm: str, fit: Callable[..., Any], tmp_path: Path
) -> None:
    folder, fitted = fit(dataset)
    digest = save(dataset, algorithm, folder, tmp_path / "model")
    header = files.load(tmp_path / "model", tmp_path / "loaded")
    loaded = arrays.read_all(tmp_path / "loaded")
    assert header.parameters == parameters_of(algorithm)
    assert header.dataset_digest == dataset.digest
    assert digest == files.check(tmp_path / "model") == files.digest_of(tmp_path / "model")
    assert fitted.keys() == loaded.keys()
    for name in fitted:
        np.testing.assert_array_equal(fitted[name], loaded[name])
    assert {f.suffix for f in (tmp_path / "model").iterdir()} == {".json", ".parquet"}


@pytest.mark.parametrize("harm", ["flip", "remove", "add", "link", "manifest"])
def test_a_harmed_model_is_refused(
    dataset: Dataset, algorithm: str, fit: Callable[..., Any], tmp_path: Path, harm: str
) -> None:
    model = tmp_path / "model"
    save(dataset, algorithm, fit(dataset)[0], model)
    file = model / files.ITEMS
    if harm == "flip":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif harm == "remove":
        file.unlink()
    elif harm == "add":
        (model / "more.parquet").write_bytes(b"")
    elif harm == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        (model / files.MANIFEST).write_text("{}")
    with pytest.raises(ModelError, match=r"manifest|was changed"):
        files.load(model, tmp_path / "loaded")
    assert not (tmp_path / "loaded").exists()


def test_unknown_hyperparameters_are_refused_by_name(algorithm: str) -> None:
    with pytest.raises(UsageError, match="unknown parameter 'factorz'"):
        ALGORITHMS[algorithm].parameters_class.checked({"factorz": 3}, "test")


def test_hyperparameters_round_trip_through_json(algorithm: str) -> None:
    parameters = parameters_of(algorithm)
    text = parameters.model_dump_json()
    assert ALGORITHMS[algorithm].parameters_class.model_validate_json(text) == parameters


def test_a_prepared_dataset_can_be_loaded_again(dataset: Dataset) -> None:
    assert load_dataset(dataset.path) == dataset
