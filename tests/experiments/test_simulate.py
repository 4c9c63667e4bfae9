"""The entry point simulate: its run, and its exit codes."""

from pathlib import Path

import mlflow
import pytest

from experiments.simulate import run_simulate
from recsys.cli import run
from recsys.data.continued import ContinueConfig
from recsys.data.simulate import SimulateConfig
from tests.recsys.campaigns import publish


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


def test_what_follows_a_campaign_is_a_run_too(mlflow_store: str, tmp_path: Path) -> None:
    raw, given, out = (str(tmp_path / name) for name in ("raw", "recommendations", "after"))
    first = f"--output {raw} --customers 50 --items 40 --days 60"
    run(run_simulate, ContinueConfig, None, "simulate", first.split())
    publish(tmp_path / "recommendations", 50, 40)
    text = f"--output {out} --continues {raw} --recommendations {given} --effect 0.3 --seed 8"
    run(run_simulate, ContinueConfig, None, "simulate", text.split())
    found = mlflow.search_runs(output_format="list")[0]
    assert found.info.run_name == "simulate 28 days after"
    assert found.data.params["effect"] == "0.3"
    assert found.data.metrics["rows"] > 0
    names = [a.path for a in mlflow.MlflowClient().list_artifacts(found.info.run_id)]
    assert names == ["campaign.json"]


def test_a_wrong_parameter_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(run_simulate, SimulateConfig, None, "simulate", ["--output", "x", "--days", "0"])
    assert stopped.value.code == 2
    assert "days='0' is not usable" in capsys.readouterr().err
