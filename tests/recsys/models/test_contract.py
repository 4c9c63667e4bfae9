"""What every recommender keeps, whatever it learns: one suite over all of them."""

import json
import pickletools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset, History
from recsys.data.prepare import prepare
from recsys.data.tables import read_tables
from recsys.errors import ModelError, UsageError
from recsys.kernels import blocks as blocks_module
from recsys.models import ALGORITHMS, arrays, files
from recsys.models.base import Hyperparameters, Scorer
from recsys.models.trend import scaled, trend_counts
from recsys.ranker import Customers, Ranker
from recsys.storage import sha256_file
from tests.recsys.builders import (
    ROLLING,
    ROLLING_CUTS,
    Event,
    Line,
    changed_after,
    folds,
    history_of,
    write_interactions,
)

CUSTOMERS = ITEMS = 20
CUT = 100
# Sized for a checkerboard of 20 × 20; a new recommender starts with its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "als": {"factors": 8, "iterations": 3, "regularization": 0.5},
    "item_item": {"neighbours": 12, "shrink": 1.0},
}
EVERY = pytest.mark.parametrize("name", ALGORITHMS)


@dataclass(frozen=True)
class Fitted:
    """A fitted recommender and where it lies."""

    name: str
    parameters: Hyperparameters
    folder: Path
    scorer: Scorer
    history: History

    @property
    def learned(self) -> dict[str, NDArray[Any]]:
        return arrays.read_all(self.folder)


def parameters_of(name: str, **more: Any) -> Hyperparameters:
    return ALGORITHMS[name].parameters_class(**(SMALL.get(name, {}) | more))


def fit(spark: SparkSession, name: str, history: History, folder: Path, **more: Any) -> Fitted:
    parameters = parameters_of(name, **more)
    recommender = ALGORITHMS[name](parameters)
    folder.mkdir(parents=True)
    recommender.fit(spark, history, folder)
    return Fitted(name, parameters, folder, recommender.open(arrays.read_all(folder)), history)


def scores(fitted: Fitted) -> NDArray[np.float32]:
    """Score every customer from their own history, in one product.

    The last bits of a product depend on its shape, and so on how rows are cut into blocks.
    """
    history = fitted.history
    parts = []
    for number in history.customer_blocks.covering(history.customers):
        block = history.customer_blocks.read(number).take(history.customers)
        block = block.before(history.before)
        parts.append(fitted.parameters.matrix(block, history.before, history.items))
    return fitted.scorer.personal(np.arange(history.customers), sp.vstack(parts, format="csr"))


def missing_item(customer: int) -> int:
    return customer // 2 * 2 + customer % 2


def checkerboard() -> list[Event]:
    """Even customers bought all even items but one, odd ones all odd items but one."""
    return [
        (customer, item, CUT - 1)
        for customer in range(CUSTOMERS)
        for item in range(customer % 2, ITEMS, 2)
        if item != missing_item(customer)
    ]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("board")
    return history_of(folder, checkerboard(), CUSTOMERS, ITEMS, CUT)


@pytest.fixture(scope="module")
def fitted(
    spark: SparkSession, board: History, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Fitted]:
    """Fit each recommender on the checkerboard, once."""
    done: dict[str, Fitted] = {}

    def once(name: str) -> Fitted:
        if name not in done:
            done[name] = fit(spark, name, board, tmp_path_factory.mktemp(name) / "fitted")
        return done[name]

    return once


def discover(fitted: Fitted, spark: SparkSession, k: int) -> NDArray[np.int64]:
    """Rank what each customer has not bought."""
    history = fitted.history
    trend = scaled(trend_counts(spark, history, fitted.parameters.trend_days))
    ids = np.array([f"i{item:03d}" for item in range(history.items)])
    ranker = Ranker(fitted.scorer, fitted.parameters, trend, ids, history.customers)
    lists = []
    for block in history.customer_blocks:
        weights = fitted.parameters.matrix(block, history.before, history.items)
        rows = np.arange(block.rows) + block.start
        lists.append(ranker.rank(Customers(rows, weights, weights), k, ("exclude",))[0].items)
    return np.concatenate(lists)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "popularity"])
def test_the_one_item_that_a_customers_group_bought_comes_first(
    spark: SparkSession, fitted: Callable[[str], Fitted], name: str
) -> None:
    first = discover(fitted(name), spark, 1)[:, 0]
    assert first.tolist() == [missing_item(customer) for customer in range(CUSTOMERS)]


def test_popularity_gives_all_customers_the_same_order(spark: SparkSession, tmp_path: Path) -> None:
    # Item 2 was bought three times, 0 twice, 3 once, 1 never; customer 3 bought nothing.
    bought = [(0, 2, 99), (1, 2, 99), (2, 2, 99), (0, 0, 99), (1, 0, 99), (2, 3, 99)]
    history = history_of(tmp_path / "history", bought, 4, 4, CUT)
    lists = discover(fit(spark, "popularity", history, tmp_path / "fitted"), spark, 4)
    assert lists.tolist() == [[3, 1, -1, -1], [3, 1, -1, -1], [0, 1, -1, -1], [2, 0, 3, 1]]


@EVERY
def test_a_refit_is_identical_to_the_bit(
    spark: SparkSession,
    board: History,
    fitted: Callable[[str], Fitted],
    tmp_path: Path,
    name: str,
) -> None:
    again = fit(spark, name, board, tmp_path / "again")
    assert again.learned.keys() == fitted(name).learned.keys()
    for key, array in fitted(name).learned.items():
        assert again.learned[key].tobytes() == array.tobytes()


@EVERY
def test_the_number_of_blocks_does_not_matter(
    spark: SparkSession,
    fitted: Callable[[str], Fitted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(blocks_module, "FEWEST_BLOCKS", 1)
    whole = history_of(tmp_path / "one", checkerboard(), CUSTOMERS, ITEMS, CUT)
    monkeypatch.setattr(blocks_module, "EVENTS_A_BLOCK", 28)
    many = history_of(tmp_path / "many", checkerboard(), CUSTOMERS, ITEMS, CUT)
    assert (len(whole.customer_blocks.numbers), len(many.item_blocks.numbers)) == (1, 7)
    for label, history in (("whole", whole), ("cut", many)):
        other = fit(spark, name, history, tmp_path / label)
        for key, array in fitted(name).learned.items():
            np.testing.assert_allclose(other.learned[key], array, rtol=1e-4, atol=1e-6)


@EVERY
def test_scores_are_a_float32_a_customer_and_item_and_never_nan(
    fitted: Callable[[str], Fitted], name: str
) -> None:
    found = scores(fitted(name))
    assert found.shape == (CUSTOMERS, ITEMS)
    assert found.dtype == np.float32
    assert not np.isnan(found).any()
    assert not np.isposinf(found).any()


@EVERY
def test_weights_that_have_decayed_to_nothing_give_no_nan(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    events = [(c, i, day) for c, i, day in checkerboard() if c] + [(0, 2, -900), (0, 4, -900)]
    history = history_of(tmp_path / "history", events, CUSTOMERS, ITEMS, CUT)
    found = scores(fit(spark, name, history, tmp_path / "fitted", half_life_days=1.0))
    assert not np.isnan(found).any()


@EVERY
def test_an_item_bought_by_nobody_before_the_cut_does_no_harm(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    history = history_of(tmp_path / "history", checkerboard(), CUSTOMERS, ITEMS + 5, CUT)
    found = scores(fit(spark, name, history, tmp_path / "fitted"))
    assert found.shape == (CUSTOMERS, ITEMS + 5)
    assert not np.isnan(found).any()


@pytest.mark.parametrize("name", ["als", "item_item"])
def test_a_new_customer_is_scored_from_their_history(
    fitted: Callable[[str], Fitted], name: str
) -> None:
    model = fitted(name)
    block = model.history.customer_blocks.read(0)
    weights = model.parameters.matrix(block, CUT, ITEMS)[:2]
    found = model.scorer.personal(np.array([CUSTOMERS, CUSTOMERS]), weights)
    for row in (0, 1):
        own_group = found[row, row::2]
        assert np.isfinite(own_group).all()
        assert found[row, missing_item(row)] > found[row, 1 - row :: 2].max()


@EVERY
def test_a_new_customer_without_a_history_gets_nothing_personal(
    fitted: Callable[[str], Fitted], name: str
) -> None:
    model = fitted(name)
    weights = model.parameters.matrix(model.history.customer_blocks.read(0), CUT, ITEMS)[:1] * 0
    weights.eliminate_zeros()
    found = model.scorer.personal(np.array([CUSTOMERS]), weights)
    assert len(np.unique(found)) == 1
    assert not np.isnan(found).any()


# --- no leakage


LEAK_CASES = [(name, {}) for name in ALGORITHMS] + [
    ("item_item", {"similarity": similarity}) for similarity in ("lift", "bm25", "tfidf")
]


@pytest.fixture(scope="module")
def rewritten(
    spark: SparkSession,
    rolling_lines: list[Line],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Dataset]:
    """The retailer with another future after each of four cuts, prepared."""
    folder = tmp_path_factory.mktemp("rewritten")
    datasets = {}
    for window, cut in ROLLING_CUTS.items():
        table = write_interactions(folder / f"{window}-lines", changed_after(rolling_lines, cut))
        tables = read_tables(spark, table)
        datasets[window] = prepare(spark, tables, folder / window, ROLLING)
    return datasets


@pytest.mark.parametrize("window", ROLLING_CUTS)
@pytest.mark.parametrize(("name", "more"), LEAK_CASES, ids=str)
def test_nothing_from_the_cut_on_changes_a_fit(
    spark: SparkSession,
    rolling: Dataset,
    rewritten: dict[str, Dataset],
    tmp_path: Path,
    window: str,
    name: str,
    more: dict[str, str],
) -> None:
    assert rewritten[window].digest != rolling.digest
    models, trends = [], []
    for label, source in (("true", rolling), ("rewritten", rewritten[window])):
        history = folds(source)[window].history
        models.append(fit(spark, name, history, tmp_path / label, **({"iterations": 2} | more)
                          if name == "als" else more))  # fmt: skip
        trends.append(trend_counts(spark, history, 7.0))
    assert np.array_equal(*trends)
    for key, array in models[0].learned.items():
        assert np.array_equal(models[1].learned[key], array), key
    assert np.array_equal(*map(scores, models))


# --- saved models


@pytest.fixture
def saved(fitted: Callable[[str], Fitted], tmp_path: Path) -> Callable[[str], Path]:
    def save(name: str) -> Path:
        model = fitted(name)
        header = files.Header(name, model.parameters, "digest", CUT, CUSTOMERS, ITEMS)
        trend = np.linspace(0, 1, ITEMS, dtype=np.float32)
        files.save(model.folder, header, model.history, trend, tmp_path / "model")
        return tmp_path / "model"

    return save


@EVERY
def test_a_loaded_model_is_the_saved_one(
    fitted: Callable[[str], Fitted], saved: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    header = files.load(saved(name), tmp_path / "loaded")
    model = fitted(name)
    assert (header.algorithm, header.parameters) == (name, model.parameters)
    loaded = arrays.read_all(tmp_path / "loaded")
    assert loaded.keys() == model.learned.keys()
    for key, array in model.learned.items():
        assert loaded[key].dtype == array.dtype
        assert np.array_equal(loaded[key], array)
    scorer = ALGORITHMS[name](header.parameters).open(loaded)
    assert np.array_equal(scores(replace(model, scorer=scorer)), scores(model))


@EVERY
def test_the_manifest_lists_every_file_and_none_is_a_pickle(
    saved: Callable[[str], Path], name: str
) -> None:
    folder = saved(name)
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(listed) | {"manifest.json"} == {path.name for path in folder.iterdir()}
    for file in folder.iterdir():
        assert file.suffix in (".json", ".parquet")
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(file.read_bytes()))


@EVERY
def test_saving_twice_gives_the_same_digest(
    fitted: Callable[[str], Fitted], saved: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    first = files.check(saved(name))
    (tmp_path / "model").rename(tmp_path / "first")
    assert files.check(saved(name)) == first == files.digest_of(tmp_path / "first")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@EVERY
def test_a_flipped_byte_in_any_file_is_refused_by_name(
    saved: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = saved(name)
    for file in sorted(folder.iterdir()):
        if file.name == "manifest.json":
            continue
        flip(file)
        with pytest.raises(ModelError, match=f"{file.name} was changed after the model was saved"):
            files.load(folder, tmp_path / "loaded")
        flip(file)
    files.check(folder)


def test_an_additional_file_is_refused_by_name(saved: Callable[[str], Path]) -> None:
    folder = saved("popularity")
    (folder / "code.py").write_text("print('hello')")
    with pytest.raises(ModelError, match=r"code\.py is not in the model's manifest"):
        files.check(folder)


def test_an_additional_folder_is_refused_by_name(saved: Callable[[str], Path]) -> None:
    folder = saved("popularity")
    (folder / "more").mkdir()
    with pytest.raises(ModelError, match="more is not in the model's manifest"):
        files.check(folder)


def test_a_removed_file_is_refused_by_name(saved: Callable[[str], Path]) -> None:
    folder = saved("popularity")
    (folder / "items.parquet").unlink()
    with pytest.raises(ModelError, match=r"items\.parquet is in the model's manifest, but is not"):
        files.check(folder)


def test_a_symlink_to_the_same_content_is_refused_by_name(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved("popularity")
    (folder / "items.parquet").rename(tmp_path / "elsewhere.parquet")
    (folder / "items.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(ModelError, match=r"items\.parquet is in the model's manifest, but is not"):
        files.check(folder)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a saved model \(no manifest\.json\)"):
        files.check(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ModelError, match="is damaged: train the model again"):
        files.check(tmp_path)


def forge(folder: Path, **changes: Any) -> None:
    """Alter model.json and make the manifest fit it."""
    header = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps(header))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.json"] = {
        "bytes": (folder / "model.json").stat().st_size,
        "sha256": sha256_file(folder / "model.json"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True))


@pytest.mark.parametrize("changes", [{"format": 99}, {"algorithm": "oracle"}])
def test_a_model_of_another_version_is_refused(
    saved: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = saved("popularity")
    forge(folder, **changes)
    with pytest.raises(ModelError, match="saved by another version .*train the model again"):
        files.load(folder, tmp_path / "loaded")


def test_an_array_outside_the_model_is_refused(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved("als")
    shutil.copy(folder / "item_factors.parquet", tmp_path / "outside.parquet")
    forge(folder, arrays={"../outside": [ITEMS, 8]})
    with pytest.raises(ModelError, match=r"\.\./outside"):
        files.load(folder, tmp_path / "inner" / "loaded")
    assert not (tmp_path / "inner" / "outside.npy").exists()


# --- hyperparameters


@EVERY
def test_hyperparameters_round_trip_through_json(name: str) -> None:
    parameters = parameters_of(name, half_life_days=None, trend_half_life_days=3.5)
    assert type(parameters).model_validate_json(parameters.model_dump_json()) == parameters
    assert type(parameters)(**json.loads(json.dumps(parameters.model_dump()))) == parameters


@EVERY
def test_an_unknown_hyperparameter_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="here: unknown parameter 'learning_rate' .*known: "):
        ALGORITHMS[name].parameters_class.checked({"learning_rate": 1}, "here")


@EVERY
@pytest.mark.parametrize("value", ["inf", "nan", "-1", "0"])
def test_a_half_life_is_a_positive_and_finite_number(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="trend_half_life_days='.*' is not usable"):
        ALGORITHMS[name].parameters_class.checked({"trend_half_life_days": value}, "here")
