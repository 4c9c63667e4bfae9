"""One trial: in a task it comes to what the distributed fit comes to; failures are results."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.models import ALGORITHMS
from recsys.models.als import AlsParameters
from recsys.models.base import Hyperparameters
from recsys.search import trial as module
from recsys.search.trial import FAILED, FINISHED, STOPPED, Recipe, Rung, run_trial
from recsys.session import HERE, run_tasks
from recsys.training import train

ALS = AlsParameters(factors=4, iterations=6)


def parameters_of(algorithm: str) -> Hyperparameters:
    return ALS if algorithm == "als" else ALGORITHMS[algorithm].parameters_class()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_task_comes_to_what_the_whole_pool_comes_to(
    spark: SparkSession, dataset: Dataset, tmp_path: Path, algorithm: str
) -> None:
    recipe = Recipe(dataset.validation, algorithm, parameters_of(algorithm), "ndcg_at_10")
    [in_a_task] = run_tasks(spark, lambda r: run_trial(HERE, r), [recipe])
    here, spread = run_trial(HERE, recipe), run_trial(spark, recipe)
    assert here.status == in_a_task.status == spread.status == FINISHED
    assert here.metrics == in_a_task.metrics == spread.metrics
    model = tmp_path / "model"
    trained = train(spark, dataset, algorithm, recipe.parameters, tmp_path, model)
    whole = trained.validation.metrics()
    for name, value in here.metrics.items():
        assert whole[f"validation/{name}"] == pytest.approx(value, abs=1e-6)
    assert 0 < here.fit_seconds < here.seconds


def test_a_fit_that_diverges_is_a_failed_trial(dataset: Dataset) -> None:
    wild = ALS.model_copy(update={"alpha": 1e38})
    outcome = run_trial(HERE, Recipe(dataset.validation, "als", wild, "ndcg_at_10"))
    assert outcome.status == FAILED
    assert "diverged" in outcome.reason
    assert outcome.metrics == {}


@pytest.mark.parametrize(
    ("error", "said"), [(MemoryError(), "memory ran out"), (ZeroDivisionError("x"), "Division")]
)
def test_whatever_goes_wrong_is_told(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "fit_plan", fail)
    outcome = run_trial(HERE, Recipe(dataset.validation, "als", ALS, "ndcg_at_10"))
    assert outcome.status == FAILED
    assert said in outcome.reason


def test_a_trial_leaves_nothing_behind(dataset: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(dataset.validation, "als", ALS, "ndcg_at_10", scratch=str(tmp_path))
    assert run_trial(HERE, recipe).status == FINISHED
    assert list(tmp_path.iterdir()) == []


def test_a_look_at_the_rung_changes_nothing_for_one_that_goes_on(dataset: Dataset) -> None:
    recipe = Recipe(dataset.validation, "als", ALS, "ndcg_at_10")
    whole = run_trial(HERE, recipe)
    for bar in (None, 0.0):
        looked = run_trial(HERE, Recipe(**vars(recipe) | {"rung": Rung(2, bar)}))
        assert looked.status == FINISHED
        assert looked.metrics == whole.metrics
        short = ALS.model_copy(update={"iterations": 2})
        at_rung = run_trial(HERE, Recipe(**vars(recipe) | {"parameters": short}))
        assert looked.at_rung == at_rung.metrics["ndcg_at_10"]


@pytest.mark.parametrize(("sign", "bar"), [(1, 0.999), (-1, 0.0001)])
def test_one_below_the_bar_is_given_up(dataset: Dataset, sign: int, bar: float) -> None:
    recipe = Recipe(dataset.validation, "als", ALS, "ndcg_at_10", sign, Rung(2, bar))
    outcome = run_trial(HERE, recipe)
    assert outcome.status == STOPPED
    assert outcome.at_rung == outcome.metrics["ndcg_at_10"]
    assert "given up after 2 iterations" in outcome.reason


def test_a_recommender_without_iterations_has_no_rung(dataset: Dataset) -> None:
    recipe = Recipe(dataset.validation, "popularity", parameters_of("popularity"), "ndcg_at_10")
    assert run_trial(HERE, Recipe(**vars(recipe) | {"rung": Rung(2, 0.99)})).status == FINISHED
