"""One training run: fit on train, judge on validation; refit on both, judge on test, save.

Only the refit is saved: it is what the test window judged.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset, Fold
from recsys.evaluation import Evaluation, evaluate
from recsys.models import ALGORITHMS, arrays, files
from recsys.models.base import Hyperparameters
from recsys.progress import stage
from recsys.scoring import TREND, plan_scoring


@dataclass(frozen=True)
class Trained:
    """What a training run leaves.

    Attributes:
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        model: folder of the saved model.
        digest: the model's digest.
        steps: metrics of each step of the refit, such as the loss.
        validation: how the fit on train did.
        test: how the refit did.
    """

    algorithm: str
    parameters: Hyperparameters
    model: Path
    digest: str
    steps: list[dict[str, float]]
    validation: Evaluation
    test: Evaluation


def train(
    spark: SparkSession, dataset: Dataset, algorithm: str, parameters: Hyperparameters, folder: Path
) -> Trained:
    """Fit, evaluate, refit, evaluate, save.

    Args:
        spark: the session.
        dataset: what `prepare` wrote.
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        folder: scratch folder that outlives the call; holds the model and the customers' tables.
    """
    model = folder / "model"
    with stage(f"{algorithm}: fit on train, judge on validation"):
        _, validation = _fit_and_judge(
            spark, dataset, dataset.validation, algorithm, parameters, folder, None
        )
    with stage(f"{algorithm}: refit on train and validation, judge on test"):
        steps, test = _fit_and_judge(
            spark, dataset, dataset.test, algorithm, parameters, folder, model
        )
    digest = files.digest_of(model)
    return Trained(algorithm, parameters, model, digest, steps, validation, test)


def _fit_and_judge(
    spark: SparkSession,
    dataset: Dataset,
    fold: Fold,
    algorithm: str,
    parameters: Hyperparameters,
    folder: Path,
    save_to: Path | None,
) -> tuple[list[dict[str, float]], Evaluation]:
    """Fit on a fold's history, judge on its window, and save where a folder is given."""
    history = fold.history
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fitted, terms = Path(scratch) / "fitted", Path(scratch) / "terms"
        fitted.mkdir()
        steps = ALGORITHMS[algorithm](parameters).fit(spark, history, fitted)
        plan = plan_scoring(spark, algorithm, parameters, fitted, history.customers, history, terms)
        evaluation = evaluate(spark, plan, fold, folder / "customers" / fold.name)
        if save_to:
            header = files.Header(
                algorithm,
                parameters,
                dataset.digest,
                history.before,
                history.customers,
                history.items,
            )
            trend = np.asarray(arrays.read(terms, TREND)[0])
            files.save(fitted, header, history, trend, save_to)
    return steps, evaluation
