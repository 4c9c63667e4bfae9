"""A search from start to end: in MLflow, after a crash, at a full stop, and with bad input."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from pyspark.sql import SparkSession

from experiments import search as module
from experiments.search import Found, SearchConfig, run_search
from experiments.train import run_train
from recsys.data.dataset import Dataset
from recsys.drivers import driver, is_alive
from recsys.errors import RecsysError, UsageError
from recsys.models.als import AlsParameters
from recsys.models.popularity import PopularityParameters
from recsys.search.place import launcher
from recsys.search.record import OUTCOME_TAG, POINT_TAG, TRIAL_TAG, children_of
from recsys.session import ROOT
from recsys.training import train
from registry.compare import CompareConfig, run_compare
from registry.evidence import entrants
from tests.processes import executors

SPACE = """\
algorithm: als
parameters:
  factors: {type: int, low: 2, high: 6}
  iterations: {type: int, low: 2, high: 5}
  regularization: {type: float, low: 1, high: 100, scale: log}
  trend_power: {type: float, low: 0, high: 1}
"""
METRIC = "validation/ndcg_at_10"


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE, "utf-8")
    return str(file)


def config(dataset: Dataset, space: str, **more: Any) -> SearchConfig:
    return SearchConfig(
        **{"dataset": str(dataset.path), "space": space, "max_evals": 6, "parallelism": 2} | more
    )


def children(found: Found) -> list[Run]:
    return children_of(MlflowClient().get_run(found.run_id))


def settings(runs: list[Run]) -> dict[int, tuple[str, float | None]]:
    """Return trial → what it tried and what it came to."""
    return {
        int(run.data.tags[TRIAL_TAG]): (run.data.tags[POINT_TAG], run.data.metrics.get(METRIC))
        for run in runs
    }


def searches() -> list[Run]:
    tag = "tags.`recsys.step` = 'search'"
    return list(
        mlflow.search_runs(search_all_experiments=True, filter_string=tag, output_format="list")
    )


def test_a_search_leaves_its_trials_and_a_run_that_compare_takes(
    spark: SparkSession, dataset: Dataset, space: str, mlflow_store: str, tmp_path: Path
) -> None:
    found = run_search(config(dataset, space, max_evals=14), spark)
    client, runs = MlflowClient(), children(found)
    assert sorted(settings(runs)) == list(range(14))
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert run.data.tags["mlflow.parentRunId"] == found.run_id
        assert 2 <= int(run.data.params["factors"]) <= 6
        assert {METRIC, "validation/replenish/ndcg_at_10", "trial/seconds"} <= set(run.data.metrics)

    parent = client.get_run(found.run_id)
    assert parent.info.status == "FINISHED"
    curve = client.get_metric_history(found.run_id, f"best/{METRIC}")
    values = [point.value for point in sorted(curve, key=lambda p: p.timestamp)]
    assert len(values) == 14
    assert values == sorted(values)
    best = max(run.data.metrics[METRIC] for run in runs)
    assert values[-1] == best
    artifacts = {f.path for f in client.list_artifacts(found.run_id)}
    assert {"space.json", "trials.json", "plots"} <= artifacts
    pictures = {f.path for f in client.list_artifacts(found.run_id, "plots")}
    assert pictures == {
        f"plots/{name}.png" for name in ("history", "coordinates_als", "importance_als")
    }

    [winner] = found.refitted
    run = client.get_run(winner.run_id)
    assert run.data.tags["mlflow.parentRunId"] == found.run_id
    assert run.data.metrics[METRIC] == pytest.approx(best, abs=1e-6)
    assert parent.data.tags["recsys.winner"] == winner.run_id
    known = {n: v for n, v in run.data.params.items() if n in AlsParameters.model_fields}
    known = {n: None if v == "None" else v for n, v in known.items()}
    again = train(spark, dataset, "als", AlsParameters(**known), tmp_path, tmp_path / "model")
    assert run.data.tags["recsys.model_digest"] == again.digest

    # The trials themselves are no entrants.
    popular = run_train("popularity", str(dataset.path), PopularityParameters(), spark)
    taking_part = {entrant.run_id for entrant in entrants(dataset.digest)}
    assert taking_part == {winner.run_id, popular.run_id}
    assert run_compare(CompareConfig(dataset=str(dataset.path))).candidate == 1


def test_all_recommenders_in_one_search(
    spark: SparkSession, dataset: Dataset, space: str, mlflow_store: str
) -> None:
    found = run_search(config(dataset, space, algorithm="all", max_evals=8), spark)
    tried = [run.data.params["algorithm"] for run in children(found)]
    assert set(tried[:]) == {"popularity", "item_item", "als"}
    assert sorted(run.algorithm for run in found.refitted) == ["als", "item_item", "popularity"]
    runs = [MlflowClient().get_run(run.run_id) for run in found.refitted]
    values = [run.data.metrics[METRIC] for run in runs]
    assert values == sorted(values, reverse=True)
    best = max(trial.value or 0 for trial in found.done.values())
    assert values[0] == pytest.approx(best, abs=1e-6)


class Crash(BaseException):
    """What no search catches."""


def crash_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver die when it launches a trial."""

    def dying(*arguments: Any) -> Any:
        launch = launcher(*arguments)

        def run(trial: int, *rest: Any) -> Any:
            if trial == number:
                raise Crash
            return launch(trial, *rest)

        return run

    monkeypatch.setattr(module, "launcher", dying)


@pytest.mark.slow
def test_a_search_that_crashed_goes_on_with_the_same_trials(
    spark: SparkSession,
    dataset: Dataset,
    space: str,
    mlflow_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = config(dataset, space, max_evals=14)
    whole = settings(children(run_search(asked, spark)))
    # The same again is another search: the first has ended.
    with monkeypatch.context() as patch:
        crash_at(12, patch)
        with pytest.raises(Crash):
            run_search(asked, spark)
    assert len(searches()) == 2
    ended = time.time() * 1000
    rest = run_search(asked, spark)
    assert settings(children(rest)) == whole
    begun_before = [run for run in children(rest) if run.info.start_time < ended]
    assert len(begun_before) >= 12
    # Nothing is left with the run that crashed.
    crashed = [run for run in searches() if run.info.status == "FAILED"]
    assert len(crashed) == 1
    assert children_of(crashed[0]) == []


def test_a_search_that_is_at_work_is_not_taken_over(
    spark: SparkSession,
    dataset: Dataset,
    space: str,
    mlflow_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crash_at(3, monkeypatch)
    with pytest.raises(Crash):
        run_search(config(dataset, space), spark)
    [left] = searches()
    MlflowClient().update_run(left.info.run_id, "RUNNING")
    assert is_alive(driver())
    with pytest.raises(UsageError, match=f"at work already, in process {os.getpid()}"):
        run_search(config(dataset, space), spark)
    # Another number of trials is the same search, another seed is not.
    with pytest.raises(UsageError, match="at work already"):
        run_search(config(dataset, space, max_evals=9), spark)
    with pytest.raises(Crash):
        run_search(config(dataset, space, seed=8), spark)


def test_a_later_search_starts_from_an_earlier_one(
    spark: SparkSession, dataset: Dataset, rolling: Dataset, space: str, mlflow_store: str
) -> None:
    first = run_search(config(dataset, space, max_evals=12), spark)
    later = run_search(config(dataset, space, seed=8, start_from=first.run_id), spark)
    alone = run_search(config(dataset, space, seed=8), spark)
    assert settings(children(later)) != settings(children(alone))
    # On other data the best settings are tried first.
    other = run_search(config(rolling, space, start_from=first.run_id), spark)
    best = sorted(children(first), key=lambda run: -run.data.metrics[METRIC])[:5]
    tried = sorted(children(other), key=lambda run: int(run.data.tags[TRIAL_TAG]))
    assert [run.data.params for run in tried[:5]] == [run.data.params for run in best]
    with pytest.raises(UsageError, match="there is no such run"):
        run_search(config(dataset, space, start_from="0" * 32), spark)
    with pytest.raises(UsageError, match="is no search with trials"):
        run_search(config(dataset, space, start_from=first.refitted[0].run_id), spark)


def test_failing_trials_are_recorded_with_their_reason(
    spark: SparkSession, dataset: Dataset, tmp_path: Path, mlflow_store: str
) -> None:
    file = tmp_path / "wild.yaml"
    file.write_text(
        "algorithm: als\nparameters:\n  factors: {type: int, low: 2, high: 4}\n"
        "  iterations: {type: int, low: 2, high: 3}\n"
        "  alpha: {type: float, low: 1, high: 1.0e+38, scale: log}\n"
    )
    found = run_search(config(dataset, str(file), max_evals=14), spark)
    failed = [run for run in children(found) if run.data.tags[OUTCOME_TAG] == "failed"]
    assert 0 < len(failed) < 14
    for run in failed:
        assert run.info.status == "FAILED"
        assert "ALS diverged" in run.data.tags["recsys.error"]


def test_a_share_of_the_customers_a_rung_and_the_other_question(
    spark: SparkSession, dataset: Dataset, space: str, mlflow_store: str
) -> None:
    asked = config(
        dataset, space, max_evals=12, customers_share=0.6, rung=2, metric="replenish/ndcg_at_10"
    )
    found = run_search(asked, spark)
    outcomes = [trial.outcome for trial in found.done.values()]
    assert {outcome.status for outcome in outcomes} <= {"finished", "stopped"}
    assert sum(outcome.at_rung is not None for outcome in outcomes) >= 6
    # What is refitted is refitted on everybody.
    winner = MlflowClient().get_run(found.refitted[0].run_id)
    plain = run_search(config(dataset, space, max_evals=1), spark).refitted[0]
    everybody = MlflowClient().get_run(plain.run_id).data.metrics["validation/customers"]
    assert winner.data.metrics["validation/customers"] == everybody


@pytest.mark.slow
def test_the_pool_serves_one_trial_where_memory_is_short(
    spark: SparkSession,
    dataset: Dataset,
    space: str,
    mlflow_store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    each = run_search(config(dataset, space, parallelism=1), spark)
    monkeypatch.setattr("recsys.search.place.SHARE", 1e-6)
    whole = run_search(config(dataset, space, seed=7), spark)
    assert "one trial after another, each over the whole pool" in capsys.readouterr().out
    values = [[t.value for _, t in sorted(f.done.items())] for f in (each, whole)]
    assert values[0] == values[1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "algorithm": ({"algorithm": "bpr"}, "algorithm=bpr is unknown"),
    "metric": ({"metric": "ndcg"}, "metric=ndcg is unknown"),
    "evaluations": ({"max_evals": 0}, "max_evals='0' is not usable"),
    "direction": ({"direction": "up"}, "direction='up' is not usable"),
    "another's space": ({"algorithm": "popularity"}, "this space is for als, not for popularity"),
    "dataset": ({"dataset": "nowhere"}, "nowhere is not a dataset"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_spark_starts(
    dataset: Dataset,
    space: str,
    mlflow_store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    def started(_: str) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(module, "spark_session", started)
    changed, said = BAD[case]
    values = {"dataset": dataset.path, "space": space} | changed
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    with pytest.raises(SystemExit) as stopped:
        module.cli.run(module.main, SearchConfig, None, "search", words)
    assert stopped.value.code == (1 if case == "dataset" else 2)
    assert said in capsys.readouterr().err
    assert searches() == []


def test_nothing_but_failures_says_why(
    spark: SparkSession, dataset: Dataset, tmp_path: Path, mlflow_store: str
) -> None:
    file = tmp_path / "wild.yaml"
    file.write_text(
        "algorithm: als\nparameters:\n  alpha: {type: float, low: 1.0e+37, high: 1.0e+38}\n"
    )
    with pytest.raises(RecsysError, match="None of 10 trials worked; the last one: ALS diverged"):
        run_search(config(dataset, str(file), max_evals=30), spark)


# Real processes, that are interrupted and killed.

PATIENCE = 300


def start(dataset: Dataset, space: str, log: Path, **options: Any) -> "subprocess.Popen[bytes]":
    """Search in a process of its own, in this process's MLflow store."""
    options = {"dataset": dataset.path, "space": space, "parallelism": 2} | options
    environment: Mapping[str, str] = options.pop("environment", {})
    program = options.pop("program", ["-m", "experiments.search"])
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYSPARK_GATEWAY")}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=ROOT,
            env=own | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(process: "subprocess.Popen[bytes]", log: Path, text: str) -> None:
    until = time.monotonic() + PATIENCE
    while text not in log.read_text("utf-8"):
        assert process.poll() is None, log.read_text("utf-8")[-3000:]
        assert time.monotonic() < until, log.read_text("utf-8")[-3000:]
        time.sleep(0.05)


def clean(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_with_the_best_so_far_and_the_same_command_goes_on(
    dataset: Dataset, space: str, mlflow_store: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = start(dataset, space, log, max_evals=400)
    try:
        wait_for(process, log, "  8/400")
        # As a terminal does: to all that belong to the command.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130, log.read_text("utf-8")[-3000:]
    finally:
        clean(process)
    text = log.read_text("utf-8")
    assert "the best so far is fitted once more" in text
    assert "als, discover: test ndcg@10" in text
    [parent] = searches()
    assert parent.info.status == "FAILED"
    runs = children_of(parent)
    done = [run for run in runs if OUTCOME_TAG in run.data.tags]
    assert len(done) >= 8
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    assert MlflowClient().get_run(parent.data.tags["recsys.winner"]).info.status == "FINISHED"

    process = start(dataset, space, log, max_evals=len(done) + 3)
    try:
        assert process.wait(PATIENCE) == 0, log.read_text("utf-8")[-3000:]
    finally:
        clean(process)
    assert f"going on with {len(done)} trials that are done" in log.read_text("utf-8")
    newest = max(searches(), key=lambda run: run.info.start_time)
    assert len(children_of(newest)) == len(done) + 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_trial_20_of_60_it_goes_on(
    spark: SparkSession, dataset: Dataset, space: str, mlflow_store: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = start(dataset, space, log, max_evals=60)
    try:
        wait_for(process, log, "  20/60")
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        clean(process)
    [killed] = searches()
    assert killed.info.status == "RUNNING"
    before = {run.info.run_id for run in children_of(killed) if OUTCOME_TAG in run.data.tags}
    assert 20 <= len(before) < 40

    process = start(dataset, space, log, max_evals=60)
    try:
        assert process.wait(PATIENCE) == 0, log.read_text("utf-8")[-3000:]
    finally:
        clean(process)
    assert MlflowClient().get_run(killed.info.run_id).info.status == "KILLED"
    newest = max(searches(), key=lambda run: run.info.start_time)
    runs = children_of(newest)
    assert sorted(int(run.data.tags[TRIAL_TAG]) for run in runs) == list(range(60))
    assert before <= {run.info.run_id for run in runs}
    assert {run.info.status for run in runs} == {"FINISHED"}
    curve = MlflowClient().get_metric_history(newest.info.run_id, f"best/{METRIC}")
    assert len({point.step for point in curve}) == 60
    whole = run_search(config(dataset, space, max_evals=60, seed=7), spark)
    assert settings(runs) == settings(children(whole))


# Trials that take their time, so that an executor can be killed during one.
SLOW = """
import sys, time
from recsys import cli
from recsys.search import place, trial
from experiments import search

def slowly(pool, recipe, run=trial.run_trial):
    time.sleep(1)
    return run(pool, recipe)

place.run_trial = slowly
cli.run(search.main, search.SearchConfig, None, "test", sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_executor_that_is_killed_during_a_trial_loses_none(
    spark: SparkSession, dataset: Dataset, space: str, mlflow_store: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    environment = {"SPARK_MASTER": "local-cluster[2,1,1024]"}
    process = start(
        dataset, space, log, max_evals=12, program=["-c", SLOW], environment=environment
    )
    killed = 0
    try:
        for after in ("  3/12", "  6/12"):
            wait_for(process, log, after)
            running = executors(process.pid)
            assert running
            os.kill(running[0], signal.SIGKILL)
            killed += 1
        assert process.wait(PATIENCE) == 0, log.read_text("utf-8")[-3000:]
    finally:
        clean(process)
    assert killed == 2
    [parent] = searches()
    runs = children_of(parent)
    assert {run.data.tags[OUTCOME_TAG] for run in runs} == {"finished"}
    whole = run_search(config(dataset, space, max_evals=12), spark)
    assert settings(runs) == settings(children(whole))


def test_a_recommender_that_no_space_is_written_for_says_what_to_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "SPACES", tmp_path)
    with pytest.raises(UsageError, match=r"write experiments/spaces/als\.yaml, or give space=FILE"):
        module.space_of(SearchConfig(dataset="x", algorithm="als"))
