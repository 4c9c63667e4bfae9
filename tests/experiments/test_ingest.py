"""The entry point ingest: its run, its table of reasons, and its errors."""

import json
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from experiments.ingest import IngestConfig, main, run_ingest
from experiments.prepare import PrepareConfig, run_prepare
from recsys.cli import run
from recsys.data.simulate import SimulateConfig, simulate
from recsys.errors import DataError


def test_the_run_carries_the_counts_by_reason(
    spark: SparkSession, mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = str(tmp_path / "raw"), str(tmp_path / "out")
    truth = simulate(SimulateConfig(output=raw, customers=100, items=40, days=60))
    report = run_ingest(IngestConfig(source=raw, output=out, mapping="simulated"), spark)
    (found,) = mlflow.search_runs(output_format="list")
    metrics = found.data.metrics
    assert metrics["rows_in"] == metrics["rows_accepted"] + metrics["rows_quarantined"]
    quarantined = {k.split("/")[1]: v for k, v in metrics.items() if k.startswith("quarantine/")}
    assert quarantined == truth.planted
    assert found.data.params["mapping"] == "simulated"
    logged = mlflow.artifacts.load_text(f"{found.info.artifact_uri}/ingest.json")
    assert json.loads(logged) == json.loads(report.model_dump_json())
    printed = capsys.readouterr().out
    assert f"{truth.planted['non_product']:,}   non_product" in printed
    assert f"{truth.rows:,} rows in" in printed


def test_a_failure_marks_the_run_and_leaves_nothing(
    spark: SparkSession, mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "till.csv"
    source.write_text("a,b\n1,2\n")
    arguments = ["--source", str(source), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        run(main, IngestConfig, None, "ingest", arguments)
    assert stopped.value.code == 1
    assert "has no column CustomerID or Customer ID" in capsys.readouterr().err
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.status == "FAILED"
    assert "no column" in found.data.tags["recsys.error"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--mapping", "nope", "there is no mapping 'nope'"),
        ("--mode", "later", "mode='later' is not usable"),
        ("--trigger", "1 minute", "trigger is for mode=stream"),
        ("--source", "nowhere.csv", "nowhere.csv does not exist"),
    ],
)
def test_wrong_parameters_exit_with_2(
    spark: SparkSession,
    mlflow_store: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    given = {"--source": "x.csv", "--output": str(tmp_path / "out")} | {option: value}
    with pytest.raises(SystemExit) as stopped:
        run(main, IngestConfig, None, "ingest", [part for pair in given.items() for part in pair])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_stream_takes_what_is_there_and_ends_telling_what_it_refused(
    spark: SparkSession, mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    truth = simulate(SimulateConfig(output=str(raw), customers=100, items=40, days=60))
    (raw / "other.csv").write_text("a,b\n1,2\n")
    options = {"source": raw, "output": out, "mapping": "simulated", "mode": "stream"}
    options |= {"quiet_seconds": 0, "trigger": "none", "state": tmp_path / "state"}
    with pytest.raises(SystemExit) as stopped:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        run(main, IngestConfig, None, "ingest", words)
    assert stopped.value.code == 1
    told = capsys.readouterr()
    assert "1 file(s) of" in told.err and "other.csv: " in told.err
    assert f"{truth.rows:,} rows in" in told.out
    (found,) = mlflow.search_runs(output_format="list")
    assert found.info.status == "FINISHED"
    metrics = found.data.metrics
    assert metrics["rows_in"] == truth.rows
    assert (metrics["files/refused"], metrics["files/waiting"]) == (1, 0)
    assert metrics["files/taken"] == len(json.loads((out / "ingest.json").read_text())["files"])
    logged = mlflow.artifacts.load_text(f"{found.info.artifact_uri}/stream.json")
    assert [*json.loads(logged)["refused"]] == ["other.csv"]
    assert (tmp_path / "state" / "_commits").is_dir()


@pytest.mark.slow
def test_what_came_since_the_last_dataset_is_compared_with_it(
    spark: SparkSession, mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    simulate(SimulateConfig(output=str(raw), customers=80, items=40, days=160))
    months = sorted(raw.glob("*.csv"))
    last = months.pop()
    last.rename(tmp_path / last.name)
    values = {"source": f"{raw}/*.csv", "output": f"{tmp_path}/out/tables", "mapping": "simulated"}
    config = IngestConfig.checked(values, "test")
    run_ingest(config, spark)
    prepared = {"interactions": config.output, "output": f"{tmp_path}/out/dataset"}
    run_prepare(PrepareConfig.checked(prepared, "test"), spark)
    run_ingest(config, spark)
    assert "drift:" not in capsys.readouterr().out
    # The newest month comes, ten times as dear, and with only half of the past.
    (raw / last.name).write_text((tmp_path / last.name).read_text().replace(".", "0."))
    months[0].unlink()
    run_ingest(config, spark)
    said = capsys.readouterr().out
    assert "drift: unit price is spread otherwise than before" in said
    assert "drift: the past has " in said
    assert "prepare and train again" in said
    run = mlflow.search_runs(output_format="list")[0]
    assert run.data.metrics["drift/restated"] > 0.01
    with pytest.raises(DataError):
        run_ingest(config.model_copy(update={"dataset": str(tmp_path / "none")}), spark)
    (tmp_path / "out" / "dataset" / "dataset.json").write_text("{}")
    assert run_ingest(config, spark).rows_in > 0
    assert "drift is not known" in capsys.readouterr().out
