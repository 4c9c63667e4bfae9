"""The scientist's notebook: a recommender from a cell is trained, logged and compared."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from nbformat import NotebookNode
from pyspark.sql import SparkSession

from experiments.train import run_train
from recsys.data.dataset import Dataset
from recsys.models import ALGORITHMS
from tests.notebooks.kernel import HTML, PNG, execute, own_store, read_notebook, shown


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tried")


@pytest.fixture(scope="module")
def executed(spark: SparkSession, rolling: Dataset, place: Path) -> NotebookNode:
    """The notebook, executed beside a popularity run."""
    with own_store(place, RECSYS_DATASET=str(rolling.path)):
        parameters = ALGORITHMS["popularity"].parameters_class()
        run_train("popularity", str(rolling.path), parameters, spark)
        notebook = read_notebook("try_a_recommender.ipynb")
        execute(notebook)
        return notebook


@pytest.fixture
def runs(executed: NotebookNode, place: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("recsys")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_no_cell_fails_and_each_plot_is_an_image(executed: NotebookNode) -> None:
    kinds = {o.output_type for cell in executed.cells for o in cell.get("outputs", ())}
    assert kinds <= {"execute_result", "display_data", "stream"}
    for cell in ("look", "beside"):
        [image] = shown(executed, cell, PNG)
        assert len(image) > 5_000


def test_its_runs_stand_beside_the_others_with_all_that_a_run_has(runs: list[Run]) -> None:
    by_name = {run.data.params["algorithm"]: run for run in runs}
    assert set(by_name) == {"popularity", "follow_up"}
    own, other = by_name["follow_up"].data, by_name["popularity"].data
    assert set(other.metrics) <= set(own.metrics)
    # A setting that follows weeks beats nothing at all.
    assert own.metrics["test/ndcg_at_10"] > 0
    assert {run.data.params.get("weeks") for run in runs} == {None, "2", "8"}


def test_the_better_one_on_validation_is_compared_with_the_others(
    executed: NotebookNode, runs: list[Run]
) -> None:
    [table] = shown(executed, "train", HTML)
    own = [run for run in runs if run.data.params["algorithm"] == "follow_up"]
    best = max(own, key=lambda run: run.data.metrics["validation/ndcg_at_10"])
    assert f"<td>{best.info.run_id[:8]}</td>" in table
    assert table.count("<td>True</td>") == 1
    [pairs] = shown(executed, "pairs", HTML)
    assert "<td>popularity" in pairs
