"""One trial: fit on a fold's history, judge on its window; a failure is a result, too.

The pool may be one task: then the trial runs whole inside it, with the same kernels on the same
packed blocks as the distributed fit, and comes to the same numbers.
"""

import time
from dataclasses import dataclass, field, replace

from recsys.data.dataset import Fold
from recsys.errors import RecsysError
from recsys.evaluation import judge, means
from recsys.judging import questions_of
from recsys.models import arrays, checkpoint
from recsys.models.base import Hyperparameters
from recsys.scoring import open_ranker
from recsys.session import Pool, scratch_folder
from recsys.storage import Place, place_of
from recsys.training import Fitted, fit_plan

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Rung:
    """A look at a fit before it is done, at which the worst are given up.

    Successive halving (Jamieson & Talwalkar 2016), without waiting for all (Li et al. 2020).

    Attributes:
        iterations: after which the fit is judged for the first time.
        bar: what it has to reach then; None for anything.
    """

    iterations: int
    bar: float | None = None


@dataclass(frozen=True)
class Recipe:
    """What a trial does; small, because it travels to the task.

    Attributes:
        fold: history and truth.
        algorithm: name of the recommender.
        parameters: its hyperparameters, as JSON.
        metric: that counts, such as `replenish/ndcg_at_10`.
        sign: 1 where more is better, -1 where less is.
        rung: an early look; None for none.
        scratch: folder to work in; None for the system's.
    """

    fold: Fold
    algorithm: str
    parameters: Hyperparameters
    metric: str
    sign: int = 1
    rung: Rung | None = None
    scratch: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        status: FINISHED, STOPPED (given up at the rung) or FAILED.
        metrics: means over customers, such as `ndcg_at_10`; empty where it failed.
        reason: why it did not finish.
        at_rung: the metric at the rung; None without one.
        fit_seconds: that the fit took.
        seconds: that all took.
    """

    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    at_rung: float | None = None
    fit_seconds: float = 0.0
    seconds: float = 0.0


def run_trial(pool: Pool, recipe: Recipe) -> Outcome:
    """Fit and judge; whatever goes wrong is told in the outcome."""
    started = time.perf_counter()
    try:
        with scratch_folder(pool, "trial", recipe.scratch) as scratch:
            found = _run(pool, recipe, scratch)
    except MemoryError:
        found = Outcome(FAILED, reason="memory ran out: lower the space's upper ends")
    except RecsysError as error:
        found = Outcome(FAILED, reason=str(error))
    except Exception as error:  # one setting that a kernel cannot stand must not end a search
        found = Outcome(FAILED, reason=f"{type(error).__name__}: {error}"[:500])
    finally:
        # The folders behind the rankers that this process keeps open are gone.
        open_ranker.cache_clear()
    return replace(found, seconds=time.perf_counter() - started)


def _run(pool: Pool, recipe: Recipe, scratch: Place) -> Outcome:
    """Fit, look at the rung where there is one, go on from there, judge."""
    whole, rung = recipe.parameters, recipe.rung
    iterations = getattr(whole, "iterations", 0)
    if rung is None or rung.iterations >= iterations:
        fitted = fit_plan(pool, recipe.algorithm, whole, recipe.fold.history, scratch / "whole")
        found = _judged(pool, recipe, fitted, scratch / "hits")
        return Outcome(FINISHED, found, fit_seconds=fitted.seconds)
    short = whole.model_copy(update={"iterations": rung.iterations})
    first = fit_plan(pool, recipe.algorithm, short, recipe.fold.history, scratch / "rung")
    found = _judged(pool, recipe, first, scratch / "hits-rung")
    value = found[recipe.metric]
    if rung.bar is not None and recipe.sign * value < recipe.sign * rung.bar:
        reason = (
            f"given up after {rung.iterations} iterations: {recipe.metric} {value:.4f}, "
            f"the bar was {rung.bar:.4f}"
        )
        return Outcome(STOPPED, found, reason, value, first.seconds)
    kept, model = scratch / "kept", place_of(first.plan.model)
    names = {name: name for name in arrays.names_in(model)}
    checkpoint.save(kept, rung.iterations, first.steps, model, names)
    history = recipe.fold.history
    rest = fit_plan(pool, recipe.algorithm, whole, history, scratch / "whole", kept)
    found = _judged(pool, recipe, rest, scratch / "hits")
    return Outcome(FINISHED, found, "", value, first.seconds + rest.seconds)


def _judged(pool: Pool, recipe: Recipe, fitted: Fitted, table: Place) -> dict[str, float]:
    """Return the means over customers, to the six digits that MLflow keeps and shows.

    What a later trial is chosen by is what a driver that goes on reads back.
    """
    judge(pool, fitted.plan, recipe.fold, table)
    found = means(table, questions_of(fitted.plan), recipe.fold.name)
    return {name: round(value, 6) for name, value in found.items()}
