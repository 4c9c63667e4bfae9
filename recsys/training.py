"""One training run: fit on train, judge on validation; refit on both, judge on test, save.

Only the refit is saved: it is what the test window judged.
"""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.campaign import compiled
from recsys.data.dataset import Dataset, Fold, History
from recsys.evaluation import Evaluation, evaluate
from recsys.models import ALGORITHMS, arrays, files
from recsys.models.base import Hyperparameters
from recsys.models.checkpoint import Steps
from recsys.progress import stage
from recsys.scoring import TREND, Plan, plan_scoring
from recsys.session import Pool
from recsys.storage import Place, make_folder, place_of, remove_folder
from recsys.strategy import Strategy


@dataclass(frozen=True)
class Trained:
    """What a training run leaves.

    Attributes:
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        model: folder of the saved model.
        digest: the model's digest.
        steps: step of the refit → metrics, such as the loss by iteration.
        fit_seconds: that the refit took.
        validation: how the fit on train did.
        test: how the refit did.
        earlier: how refits before each earlier test window did, the latest first.
    """

    algorithm: str
    parameters: Hyperparameters
    model: Path
    digest: str
    steps: Steps
    fit_seconds: float
    validation: Evaluation
    test: Evaluation
    earlier: list[Evaluation]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Every window's."""
        return [self.validation, self.test, *self.earlier]


def train(
    pool: Pool,
    dataset: Dataset,
    algorithm: str,
    parameters: Hyperparameters,
    folder: Place,
    model: Path,
    checkpoints: Place | None = None,
    strategy: Strategy | None = None,
) -> Trained:
    """Fit, evaluate, refit, evaluate, save.

    Args:
        pool: where the tasks run.
        dataset: what `prepare` wrote.
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        folder: scratch folder that all tasks reach and that outlives the call; holds hit tables.
        model: local folder to save the model to.
        checkpoints: where a long fit keeps its state, so that the same call goes on after a crash.
        strategy: by whose rule on bought items a third question is asked; None for two.
    """

    def fit_and_judge(fold: Fold, save_to: Path | None = None) -> _Judged:
        kept = None
        if checkpoints:
            told = f"{dataset.digest} {fold.name} {recipe(algorithm, parameters)}"
            kept = checkpoints / f"{algorithm}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        fit = _Fit(dataset, algorithm, parameters, strategy)
        return _fit_and_judge(pool, fit, fold, folder, kept, save_to)

    with stage(f"{algorithm}: fit on train, judge on validation"):
        validation = fit_and_judge(dataset.validation)
    earlier = []
    for fold in dataset.earlier:
        with stage(f"{algorithm}: fit on all before {fold.name}, judge on it"):
            earlier.append(fit_and_judge(fold).evaluation)
    with stage(f"{algorithm}: refit on all before test, judge on test"):
        test = fit_and_judge(dataset.test, model)
    return Trained(
        algorithm,
        parameters,
        model,
        files.digest_of(model),
        test.steps,
        test.seconds,
        validation.evaluation,
        test.evaluation,
        earlier,
    )


@dataclass(frozen=True)
class Fitted:
    """A recommender that can rank.

    Attributes:
        plan: what ranking needs; its folders lie in the scratch folder.
        steps: step → metrics, such as the loss by iteration.
        seconds: that the fit took.
    """

    plan: Plan
    steps: Steps
    seconds: float


def fit_plan(
    pool: Pool,
    algorithm: str,
    parameters: Hyperparameters,
    history: History,
    scratch: Place,
    kept: Place | None = None,
) -> Fitted:
    """Fit a recommender on a history, and make it ready to rank that history's customers.

    Args:
        pool: where the tasks run.
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        history: what may be seen.
        scratch: folder that outlives the plan; without a former fit in it.
        kept: see `Recommender.fit`.
    """
    fitted, terms = scratch / "fitted", scratch / "terms"
    make_folder(fitted)
    started = time.perf_counter()
    steps = ALGORITHMS[algorithm](parameters).fit(pool, history, fitted, kept)
    seconds = time.perf_counter() - started
    plan = plan_scoring(pool, algorithm, parameters, fitted, history.customers, history, terms)
    return Fitted(plan, steps, seconds)


def run_name(algorithm: str, parameters: Hyperparameters) -> str:
    """Return a recommender and those of its hyperparameters that are not the default."""
    changed = parameters.model_dump(exclude_defaults=True)
    return " ".join([algorithm, *(f"{name}={value}" for name, value in changed.items())])


def recipe(algorithm: str, parameters: Hyperparameters) -> str:
    """Return a digest of a recommender and its hyperparameters: what to train again on new data."""
    told = {"algorithm": algorithm, **parameters.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Fit:
    """What is alike in every fit of a run."""

    dataset: Dataset
    algorithm: str
    parameters: Hyperparameters
    strategy: Strategy | None


@dataclass(frozen=True)
class _Judged:
    """One fit and how it did."""

    steps: Steps
    seconds: float
    evaluation: Evaluation


def _fit_and_judge(
    pool: Pool,
    fit: _Fit,
    fold: Fold,
    folder: Place,
    kept: Place | None,
    save_to: Path | None,
) -> _Judged:
    """Fit on a fold's history, judge on its window, and save where a folder is given."""
    algorithm, parameters, history = fit.algorithm, fit.parameters, fold.history
    scratch = folder / f"fit-{fold.name}"
    try:
        fitted = fit_plan(pool, algorithm, parameters, history, scratch, kept)
        plan = fitted.plan
        if fit.strategy:
            seen = Strategy(name=fit.strategy.name, seen=fit.strategy.seen)
            rules = compiled(seen, None, history, None, scratch / "campaign")
            plan = replace(plan, campaign=rules)
        evaluation = evaluate(pool, plan, fold, folder / "hits" / fold.name)
        if save_to:
            header = files.Header(
                algorithm,
                parameters,
                fit.dataset.digest,
                history.before,
                history.customers,
                history.items,
            )
            trend = np.asarray(arrays.read(place_of(plan.terms), TREND)[0])
            files.save(place_of(plan.model), header, history, trend, save_to)
    finally:
        remove_folder(scratch)
    return _Judged(fitted.steps, fitted.seconds, evaluation)
