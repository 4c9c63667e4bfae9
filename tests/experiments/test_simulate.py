"""The entry point simulate: its run, and its exit codes."""

from pathlib import Path

import mlflow
import pytest

from experiments.simulate import run_simulate
from recsys.cli import run
from recsys.data.simulate import SimulateConfig


def test_the_run_carries_parameters_and_counts(mlflow_store: str, tmp_path: Path) -> None:
    config = SimulateConfig(output=str(tmp_path / "out"), customers=50, items=40, days=60)
    result = run_simulate(config)
    (found,) = mlflow.search_runs(output_format="list")
    assert found.data.tags["recsys.step"] == "simulate"
    assert found.data.params["customers"] == "50"
    assert found.data.metrics["rows"] == result.rows
    assert found.data.metrics["planted/bad_number"] == result.planted["bad_number"]
    names = [a.path for a in mlflow.MlflowClient().list_artifacts(found.info.run_id)]
    assert names == ["simulation.json"]


def test_a_wrong_parameter_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(run_simulate, SimulateConfig, None, "simulate", ["--output", "x", "--days", "0"])
    assert stopped.value.code == 2
    assert "days='0' is not usable" in capsys.readouterr().err
