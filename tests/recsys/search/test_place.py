"""Where trials run: chosen from what they need and what is free, and said."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.errors import RecsysError
from recsys.models.als import AlsParameters
from recsys.models.base import Hyperparameters
from recsys.search import place as module
from recsys.search.goal import Goal
from recsys.search.place import GIB, bytes_of, launcher, place
from recsys.search.reading import read_spaces
from recsys.search.trial import FAILED, FINISHED
from tests.recsys.builders import history_of

LARGEST: list[tuple[str, Hyperparameters]] = [("als", AlsParameters(factors=128))]


def free(monkeypatch: pytest.MonkeyPatch, *nodes: int) -> None:
    found = [(f"node{number}", size) for number, size in enumerate(nodes)]
    monkeypatch.setattr(module, "run_tasks", lambda *_: found)


def test_a_small_dataset_has_a_task_a_trial(spark: SparkSession, dataset: Dataset) -> None:
    found = place(spark, dataset.validation.history, LARGEST, 2)
    assert (found.at_once, found.whole_pool) == (2, False)
    assert "a trial needs about 0.4 GiB" in found.why
    assert "2 at once, a task each" in found.why


@pytest.mark.parametrize(
    ("nodes", "asked", "at_once", "whole_pool"),
    [
        ((16 * GIB,), 2, 2, False),
        ((16 * GIB,), 8, 2, False),
        ((8 * GIB,), 2, 1, False),
        ((2 * GIB,), 2, 1, True),
        ((16 * GIB, 2 * GIB), 2, 1, True),
        ((16 * GIB, 16 * GIB), 4, 4, False),
        ((16 * GIB, 16 * GIB), 8, 2, False),
    ],
)
def test_what_is_free_decides(
    spark: SparkSession,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    nodes: tuple[int, ...],
    asked: int,
    at_once: int,
    whole_pool: bool,
) -> None:
    free(monkeypatch, *nodes)
    monkeypatch.setattr(module, "bytes_of", lambda *_: 5 * GIB)
    found = place(spark, dataset.validation.history, LARGEST, asked)
    assert (found.at_once, found.whole_pool) == (at_once, whole_pool)


def test_more_events_and_more_factors_need_more(tmp_path: Path, dataset: Dataset) -> None:
    history = dataset.validation.history
    small = bytes_of("als", AlsParameters(factors=8), history)
    assert bytes_of("als", AlsParameters(factors=512), history) > small
    many = replace(history, customer_blocks=replace(history.customer_blocks, events=(100_000_000,)))
    assert bytes_of("als", AlsParameters(factors=8), many) > 5 * GIB
    few = history_of(tmp_path / "few", [(0, 0, 1)], 1, 1, 2)
    assert bytes_of("popularity", AlsParameters(), few) < GIB


@pytest.mark.parametrize("whole_pool", [False, True])
def test_a_launched_trial_tells_how_it_ended(
    spark: SparkSession, dataset: Dataset, tmp_path: Path, whole_pool: bool
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("algorithm: als\nparameters:\n  factors: {type: int, low: 2, high: 4}\n")
    space = read_spaces({"als": file})
    placing = module.Placing(1, whole_pool, "")
    launch = launcher(spark, dataset.validation, space, Goal("ndcg_at_10"), placing)
    outcome = launch(0, {"als.factors": 3.0}, None)
    assert outcome.status == FINISHED
    assert outcome.metrics["ndcg_at_10"] > 0


def test_a_task_that_dies_fails_its_trial_alone(
    spark: SparkSession, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("algorithm: als\nparameters:\n  factors: {type: int, low: 2, high: 4}\n")
    space = read_spaces({"als": file})

    def die(*_: object) -> None:
        raise RuntimeError("Job aborted\nPython worker exited unexpectedly (crashed)")

    monkeypatch.setattr(module, "run_tasks", die)
    placing = module.Placing(1, False, "")
    launch = launcher(spark, dataset.validation, space, Goal("ndcg_at_10"), placing)
    outcome = launch(0, {"als.factors": 3.0}, None)
    assert outcome.status == FAILED
    assert outcome.reason == "the task died: Python worker exited unexpectedly (crashed)"
    monkeypatch.setattr(module, "_is_alive", lambda _: False)
    with pytest.raises(RecsysError, match="Spark ended"):
        launch(0, {"als.factors": 3.0}, None)
