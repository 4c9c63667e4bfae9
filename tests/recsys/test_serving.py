"""The saved model through MLflow: what notebooks and `mlflow models serve` get."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel
from pyspark.sql import SparkSession

from recsys.errors import UsageError
from recsys.models import ALGORITHMS, files
from recsys.serving import SIGNATURE
from tests.recsys.builders import history_of

CUSTOMERS = ITEMS = 12
PARAMETERS = {"als": {"factors": 6, "iterations": 4, "regularization": 0.5}, "popularity": {}}
# Item 11 sells best, then 10, …; all that the popularity of those who are not known can follow.
TREND = np.linspace(0.5, 1, ITEMS, dtype=np.float32)


def saved(spark: SparkSession, name: str, folder: Path) -> Path:
    """Fit on two groups: even customers bought even items, all but the one of their own number."""
    events = [
        (customer, item, 9)
        for customer in range(CUSTOMERS)
        for item in range(customer % 2, ITEMS, 2)
        if item != customer
    ]
    history = history_of(folder / "history", events, CUSTOMERS, ITEMS, 10)
    parameters = ALGORITHMS[name].parameters_class(**PARAMETERS[name], trend_power=1)
    (folder / "fitted").mkdir()
    ALGORITHMS[name](parameters).fit(spark, history, folder / "fitted")
    header = files.Header(name, parameters, "digest", 10, CUSTOMERS, ITEMS)
    files.save(folder / "fitted", header, history, TREND, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def als_folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(spark, "als", tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def flavour(als_folder: Path) -> dict[str, Any]:
    """What MLflow is told of a model, as a training run tells it."""
    return {
        "loader_module": "recsys.serving",
        "data_path": str(als_folder),
        "signature": SIGNATURE,
        "input_example": pd.DataFrame({"customer_id": ["c001"]}),
        "pip_requirements": [],
    }


@pytest.fixture(scope="module")
def model_folder(flavour: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "model"
    mlflow.pyfunc.save_model(folder, **flavour)
    return folder


@pytest.fixture(scope="module")
def model(model_folder: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(model_folder))


def history_of_customer(customer: int) -> list[str]:
    return [f"i{item:03d}" for item in range(customer % 2, ITEMS, 2) if item != customer]


def test_a_model_that_a_run_logged_recommends_the_same(
    model: PyFuncModel, flavour: dict[str, Any], mlflow_store: str
) -> None:
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(name="model", **flavour)
    asked = pd.DataFrame({"customer_id": ["c004", "new"], "history": [["i000"], ["i001"]]})
    found = mlflow.pyfunc.load_model(logged.model_uri).predict(asked)
    pd.testing.assert_frame_equal(found, model.predict(asked))


def test_gives_k_rows_a_customer(model: PyFuncModel) -> None:
    asked = pd.DataFrame(
        {"customer_id": ["c004", "c003"], "history": [history_of_customer(4), ["i001"]]}
    )
    found = model.predict(asked, params={"k": 3})
    assert list(found.columns) == ["customer_id", "rank", "item_id", "score", "source"]
    assert found["customer_id"].tolist() == ["c004"] * 3 + ["c003"] * 3
    assert found["rank"].tolist() == [1, 2, 3] * 2
    assert found["item_id"][0] == "i004"
    assert set(found["source"]) == {"model"}
    assert len(model.predict(asked)) == 2 * 10 - 3  # 10 by default; c004 has 7 items left to see


def test_the_history_is_left_out_unless_repeat_is_asked_for(model: PyFuncModel) -> None:
    asked = pd.DataFrame({"customer_id": ["c004"], "history": [history_of_customer(4)]})
    new = model.predict(asked, params={"k": ITEMS})["item_id"]
    assert sorted(new) == sorted({f"i{n:03d}" for n in range(ITEMS)} - set(history_of_customer(4)))
    again = model.predict(asked, params={"k": ITEMS, "repeat": True})
    assert len(again) == ITEMS
    assert set(again["item_id"][:5]) <= set(history_of_customer(4)) | {"i004"}


def test_an_unknown_customer_is_folded_in_from_their_history(model: PyFuncModel) -> None:
    asked = pd.DataFrame({"customer_id": ["new"], "history": [[*history_of_customer(3), "other"]]})
    found = model.predict(asked, params={"k": 1})
    assert found[["item_id", "source"]].to_numpy().tolist() == [["i003", "fold_in"]]


def test_an_unknown_customer_without_history_gets_what_is_popular(model: PyFuncModel) -> None:
    found = model.predict(pd.DataFrame({"customer_id": ["new"]}), params={"k": 3})
    assert found["item_id"].tolist() == ["i011", "i010", "i009"]
    assert set(found["source"]) == {"popularity"}


def test_a_history_may_be_missing_for_some(model: PyFuncModel) -> None:
    asked = pd.DataFrame({"customer_id": ["c004", "new"], "history": [["i000"], None]})
    found = model.predict(asked, params={"k": 2})
    assert found["customer_id"].tolist() == ["c004", "c004", "new", "new"]
    assert found["source"].tolist() == ["model", "model", "popularity", "popularity"]


def test_k_above_the_catalogue_gives_all_there_is(model: PyFuncModel) -> None:
    found = model.predict(pd.DataFrame({"customer_id": ["c001"]}), params={"k": 100})
    assert len(found) == ITEMS


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_1_is_refused(model: PyFuncModel, k: int) -> None:
    with pytest.raises(UsageError, match=f"k={k} .*at least 1"):
        model.predict(pd.DataFrame({"customer_id": ["c001"]}), params={"k": k})


def test_no_customers_give_no_rows(model: PyFuncModel) -> None:
    found = model.predict(pd.DataFrame({"customer_id": pd.Series([], dtype=str)}))
    assert len(found) == 0
    assert "item_id" in found.columns


def test_the_artifact_holds_no_code(model_folder: Path) -> None:
    suffixes = {path.suffix for path in model_folder.rglob("*") if path.is_file()}
    assert suffixes <= {"", ".json", ".parquet", ".yaml", ".txt"}
