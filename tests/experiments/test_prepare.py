"""The step `prepare`: its parameters reach the dataset, and its run and its output tell of them."""

from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from experiments.prepare import PrepareConfig, run_prepare
from recsys.data.dataset import load_dataset
from tests.recsys.builders import Line, write_interactions


def test_the_number_of_windows_reaches_the_dataset_and_the_terminal(
    spark: SparkSession, tmp_path: Path, mlflow_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [Line("a", "1", day) for day in range(10, 18)]
    config = PrepareConfig(
        interactions=str(write_interactions(tmp_path / "lines", lines)),
        output=str(tmp_path / "dataset"),
        test_days=2,
        validation_days=1,
        windows=2,
    )
    run_prepare(config, spark)
    assert [fold.name for fold in load_dataset(config.output).earlier] == ["test_2"]
    printed = capsys.readouterr().out
    assert (
        "  train until 1970-01-14, validation until 1970-01-15, test_2 until 1970-01-17, "
        "test until 1970-01-19: 3 + 1 + 2 + 2 rows\n"
    ) in printed
    assert "  1 customers, 1 items; of the test window's customers 0.0% are new\n" in printed
    [run] = mlflow.search_runs(experiment_names=["recsys"], output_format="list")
    assert run.data.params["windows"] == "2"
