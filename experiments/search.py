"""Search for the hyperparameters that rank best on the validation window.

Trials run at once, a task each; the best setting, and with algorithm=all the best of each
recommender, is fitted again on all before the test window, judged on it once, and logged as a run
that `compare` takes. Run again after a crash or Ctrl-C, the same command goes on where it stopped.

  python -m experiments.search --dataset out/dataset
  python -m experiments.search --dataset out/dataset --algorithm all --max_evals 200 --minutes 30
  python -m experiments.search --dataset out/dataset --metric replenish/ndcg_at_10
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import mlflow
from mlflow import MlflowClient
from pydantic import Field
from pyspark.sql import SparkSession

from experiments.train import TrainedRun, run_train
from recsys import cli, tracking, view
from recsys.config import Config
from recsys.data.dataset import Dataset, load_dataset
from recsys.errors import RecsysError, UsageError
from recsys.models import ALGORITHMS
from recsys.progress import say, stage
from recsys.search import report
from recsys.search.earlier import Earlier, earlier_study
from recsys.search.goal import Done, Goal
from recsys.search.place import cancel, launcher, place
from recsys.search.reading import algorithm_of, read_spaces
from recsys.search.record import Record
from recsys.search.runner import INTERRUPTED, Limits, Trials
from recsys.search.sample import sampled
from recsys.search.space import Space
from recsys.search.study import Sampler, Study
from recsys.session import ROOT, cores_of, scratch_folder, spark_session
from recsys.storage import Place, fetched, place_of
from recsys.training import run_name

SPACES = ROOT / "experiments" / "spaces"
ALL = "all"


class SearchConfig(Config):
    """Parameters of `search`."""

    dataset: str = Field(description="folder that prepare wrote")
    algorithm: str = Field("als", description=f"{', '.join(ALGORITHMS)}, or all of them: {ALL}")
    max_evals: int = Field(60, ge=1, description="trials")
    parallelism: int | None = Field(
        None, ge=1, description="trials at once; none: one a core of the pool"
    )
    metric: str = Field(
        "ndcg_at_10", description="what counts; replenish/ndcg_at_10 asks the other question"
    )
    direction: Literal["max", "min"] = Field("max", description="more is better, or less")
    minutes: float | None = Field(None, gt=0, description="no new trial after so many minutes")
    patience: int | None = Field(None, ge=1, description="end after so many without a better one")
    sampler: Sampler = Field("tpe", description="tpe, or random")
    seed: int = Field(7, ge=0, description="of what is tried; the same seed tries the same")
    space: str | None = Field(
        None, description=f"YAML files by comma; none: {SPACES.relative_to(ROOT)}/<algorithm>.yaml"
    )
    customers_share: float = Field(
        1.0, gt=0, le=1, description="share of the customers that trials fit and judge"
    )
    rung: int | None = Field(
        None, ge=1, description="iterations of ALS after which the worse two thirds are given up"
    )
    start_from: str | None = Field(None, description="id of an earlier search's parent run")


@dataclass(frozen=True)
class Found:
    """What a search leaves.

    Attributes:
        run_id: of the parent.
        done: trials by number.
        refitted: the best setting's run first, then that of each other recommender.
        why: it ended.
    """

    run_id: str
    done: dict[int, Done]
    refitted: list[TrainedRun]
    why: str


def run_search(config: SearchConfig, spark: SparkSession) -> Found:
    """Search, refit the best, and log all of it.

    Raises:
        UsageError: the space, the metric or the earlier search cannot be used; before any trial.
        RecsysError: no trial worked.
        KeyboardInterrupt: somebody said stop; the best so far is refitted and logged.
    """
    dataset, space = load_dataset(config.dataset), space_of(config)
    goal = Goal.of(config.metric, config.direction)
    earlier = _earlier(config, dataset, goal)
    name = f"search {config.algorithm} {config.metric}"
    with (
        tracking.step_run("search", name, config.model_dump()) as run,
        scratch_folder(spark, "search") as scratch,
    ):
        tracking.log_dataset(dataset, "search")
        record = Record(run, space, goal)
        done = record.open(_identity(config, dataset, space, earlier))
        if done:
            say(f"  going on with {len(done)} trials that are done")
        why = _try_settings(config, spark, dataset, earlier, record, done, scratch)
        if why == INTERRUPTED:
            say("  stopped; the best so far is fitted once more (Ctrl-C again: without)")
        record.close(done)
        refitted = _refitted(done, space, goal, config.dataset, spark)
        _describe(record, done, why, refitted)
        if why == INTERRUPTED:
            raise KeyboardInterrupt(f"after {len(done)} of {config.max_evals} trials")
        return Found(run.info.run_id, done, refitted, why)


def _try_settings(
    config: SearchConfig,
    spark: SparkSession,
    dataset: Dataset,
    earlier: Earlier,
    record: Record,
    done: dict[int, Done],
    folder: Place,
) -> str:
    """Run trials until a limit, adding to those that are done; returns why it ended."""
    space, goal, fold = record.space, record.goal, dataset.validation
    largest = [(name, space.largest(name)) for name in space.algorithms]
    wanted = min(config.parallelism or cores_of(spark), config.max_evals)
    placing = place(spark, fold.history, largest, wanted)
    say(f"  {placing.why}")
    mlflow.log_params({"at_once": placing.at_once, "whole_pool": placing.whole_pool})
    if config.customers_share < 1:
        with stage(f"draw {config.customers_share:.0%} of the customers"):
            fold = sampled(spark, fold, config.customers_share, config.seed, folder / "sample")
    progress = report.Progress(space, goal, config.max_evals, len(done))

    def ended(trial: Done, done: Mapping[int, Done]) -> None:
        record.ended(trial, done)
        progress.ended(trial, done)

    trials = Trials(
        Study(space, config.sampler, config.seed, placing.at_once, earlier.firsts(space)),
        goal,
        Limits(config.max_evals, config.minutes, config.patience),
        launcher(spark, fold, space, goal, placing),
        partial(cancel, spark),
        record.begun,
        ended,
        config.rung,
        earlier.known(space, goal),
    )
    with stage(f"search: {config.max_evals} trials, {placing.at_once} at once"):
        why = trials.run(done)
    say(f"  {why}")
    return why


def space_of(config: SearchConfig) -> Space:
    """Read the files of the recommenders that are searched.

    Raises:
        UsageError: an unknown recommender, or a file that cannot be used.
    """
    if config.algorithm not in (*ALGORITHMS, ALL):
        raise UsageError(
            f"algorithm={config.algorithm} is unknown: choose one of "
            f"{', '.join(ALGORITHMS)}, or {ALL}."
        )
    files = {name: SPACES / f"{name}.yaml" for name in ALGORITHMS}
    files = {name: file for name, file in files.items() if file.exists()}
    given = [fetched(place_of(file)) for file in cli.names(config.space)]
    if config.algorithm == ALL:
        return read_spaces(files | {algorithm_of(file): file for file in given})
    found = given[0] if given else files.get(config.algorithm)
    if found is None:
        raise UsageError(
            f"nothing says where to search {config.algorithm}: write "
            f"experiments/spaces/{config.algorithm}.yaml, or give space=FILE."
        )
    return read_spaces({config.algorithm: found})


def _earlier(config: SearchConfig, dataset: Dataset, goal: Goal) -> Earlier:
    """Read the search to start from; nothing where there is none."""
    if config.start_from is None:
        return Earlier()
    alike = {
        "metric": config.metric,
        "customers_share": str(config.customers_share),
        "dataset_digest": dataset.digest[: tracking.DIGEST_SHOWN],
    }
    return earlier_study(config.start_from, goal, alike)


def _identity(config: SearchConfig, dataset: Dataset, space: Space, earlier: Earlier) -> str:
    """Return a digest of what is searched, by which a search that was killed is found again."""
    told = {
        "dataset": dataset.digest,
        "space": space.described(),
        "firsts": earlier.firsts(space),
        **config.model_dump(
            include={"metric", "direction", "sampler", "seed", "customers_share", "rung"}
        ),
        "start_from": config.start_from,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _refitted(
    done: dict[int, Done], space: Space, goal: Goal, dataset: str, spark: SparkSession
) -> list[TrainedRun]:
    """Train the best setting, then the best of each other recommender, as runs of their own."""
    best: list[Done] = []
    for algorithm in space.algorithms:
        mine = {n: t for n, t in done.items() if space.chosen(t.point)[0] == algorithm}
        found = goal.best(mine)
        best += [] if found is None else [found]
    if not best:
        raise RecsysError("No trial finished, so there is nothing to refit: allow more of them.")
    best.sort(key=lambda trial: (-goal.sign * (trial.value or 0.0), trial.number))
    runs = []
    for trial in best:
        algorithm, parameters = space.chosen(trial.point)
        say(f"  trial {trial.number} is fitted again: {run_name(algorithm, parameters)}")
        spark.sparkContext.setJobGroup("", "refit")
        run = run_train(algorithm, dataset, parameters, spark)
        MlflowClient().set_tag(run.run_id, "recsys.trial", str(trial.number))
        runs.append(run)
    return runs


def _describe(record: Record, done: dict[int, Done], why: str, refitted: list[TrainedRun]) -> None:
    """Write the parent's description, and its winner's figures."""
    experiment, run_id = record.parent.info.experiment_id, record.parent.info.run_id
    runs = {run.algorithm: (run.run_id, run.metrics) for run in refitted}
    best, key = record.best(done, report.SHOWN), record.show()
    note = report.note(done, record.space, record.goal, why, runs, (experiment, key), best)
    mlflow.set_tag(view.NOTE, note)
    winner = refitted[0]
    mlflow.set_tag("recsys.winner", winner.run_id)
    figures = {f"winner/{n}": round(v, 6) for n, v in winner.metrics.items() if n in view.METRICS}
    mlflow.log_metrics(figures)
    say(f"  all trials, best first: {view.view_address(experiment, key=key)}")
    say(f"  the search: {view.run_address(experiment, run_id)}")


def main(config: SearchConfig) -> None:
    """Run the step in a session of its own; what can be refused is refused before it starts."""
    load_dataset(config.dataset)
    space_of(config)
    Goal.of(config.metric, config.direction)
    run_search(config, spark_session("search", config.dataset))


if __name__ == "__main__":
    cli.run(main, SearchConfig, __doc__, "python -m experiments.search")
