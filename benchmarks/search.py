"""Measure the search: what trials at once bring, what they cost beside the kernels, TPE's worth.

speed     the same trials one at a time and one a core, in turn: throughput, and the time of a
          trial that is neither fitting nor judging.
sampler   TPE and random search on half of the customers, over seeds: the number of trials until
          the best of all random trials is reached. The defaults are not tried first here.
rung      the same search with an early look at ALS and without.

  python -m benchmarks.search --dataset out/dataset
  python -m benchmarks.search --dataset out/dataset --only sampler --seeds 5
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from pyspark.sql import SparkSession

from benchmarks import command
from experiments.search import SPACES, SearchConfig, run_search
from recsys.data.dataset import Fold, load_dataset
from recsys.progress import say
from recsys.search.goal import Done, Goal
from recsys.search.place import Placing, cancel, launcher
from recsys.search.reading import read_spaces
from recsys.search.runner import Limits, Trials
from recsys.search.sample import sampled
from recsys.search.space import Point
from recsys.search.study import Sampler, Study
from recsys.session import cores_of, spark_session

SEED = 7
GOAL = Goal("ndcg_at_10")
PARTS = ("speed", "sampler", "rung")


@dataclass(frozen=True)
class Ran:
    """A study that ran.

    Attributes:
        done: its trials.
        seconds: that all took.
    """

    done: dict[int, Done]
    seconds: float

    @property
    def values(self) -> list[float]:
        """Each trial's value, in the order of their numbers."""
        return [trial.value or 0.0 for _, trial in sorted(self.done.items())]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for and print what was found."""
    options = _parser().parse_args(arguments)
    spark = spark_session("benchmark search")
    dataset = load_dataset(options.dataset)
    with tempfile.TemporaryDirectory(prefix="recsys-search-") as scratch:
        if "speed" in options.only:
            _write(_speed(spark, options.dataset, options.trials, options.repeats, Path(scratch)))
        if "sampler" in options.only:
            half = sampled(spark, dataset.validation, 0.5, SEED, Path(scratch) / "half")
            _write(_sampler(spark, half, options.trials, options.seeds))
        if "rung" in options.only:
            _write(_rung(spark, dataset.validation, options.trials, options.repeats))
    spark.stop()


def _write(lines: Iterator[str]) -> None:
    for line in lines:
        say(line)


def _speed(
    spark: SparkSession, dataset: str, trials: int, repeats: int, folder: Path
) -> Iterator[str]:
    """Search as a user does, in an MLflow store of its own."""
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("recsys", artifact_location=(folder / "artifacts").as_uri())
    cores = cores_of(spark)
    # Kernels are compiled and workers started before anything counts.
    run_search(SearchConfig(dataset=dataset, max_evals=2 * cores, seed=1), spark)
    throughput: dict[int, list[float]] = {1: [], cores: []}
    overhead = []
    for turn in range(repeats):
        for at_once in throughput:
            # Random, so that all turns try the same settings.
            config = SearchConfig(
                dataset=dataset,
                max_evals=trials,
                parallelism=at_once,
                sampler="random",
                seed=SEED + turn,
            )
            begun = time.perf_counter()
            done = run_search(config, spark).done
            whole = time.perf_counter() - begun
            seconds = [trial.outcome.seconds for trial in done.values()]
            fitting = statistics.mean(trial.outcome.fit_seconds for trial in done.values())
            searched = _searched(config)
            throughput[at_once].append(trials / searched)
            if at_once == 1:
                overhead.append((searched - sum(seconds)) / trials)
            yield (
                f"turn {turn + 1}, {at_once} at once: {trials} trials in {searched:.1f} s, with "
                f"set-up and refit {whole:.1f} s; a trial {statistics.mean(seconds):.2f} s, of "
                f"which fitting {fitting:.2f} s"
            )
    ratios = [b / a for a, b in zip(*throughput.values(), strict=True)]
    yield f"throughput of {cores} at once: {_spread(ratios)} × one at a time"
    yield f"beyond the trial's own work, one at a time: {_spread(overhead)} s a trial"


def _searched(config: SearchConfig) -> float:
    """Return how long the trials of the newest search took, from MLflow's own times."""
    tag = "tags.`recsys.step` = '{}'"
    [parent, *_] = mlflow.search_runs(
        experiment_names=["recsys"],
        filter_string=tag.format("search"),
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    mine = f" and tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    runs = mlflow.search_runs(
        experiment_names=["recsys"], filter_string=tag.format("trial") + mine, output_format="list"
    )
    begun, ended = (min(r.info.start_time for r in runs), max(r.info.end_time for r in runs))
    assert len(runs) == config.max_evals
    return float(ended - begun) / 1000


def _sampler(spark: SparkSession, fold: Fold, trials: int, seeds: int) -> Iterator[str]:
    """Count TPE's trials until it has what random search ends with."""
    # TPE begins at random: with one seed for both, its first trials would be random search's.
    randoms = [_ran(spark, fold, "random", seed + seeds, trials).values for seed in range(seeds)]
    tpes = [_ran(spark, fold, "tpe", seed, trials).values for seed in range(seeds)]
    needed = [[_reached(tpe, max(random)) for tpe in tpes] for random in randoms]
    for seed, (random, tpe) in enumerate(zip(randoms, tpes, strict=True)):
        reached = needed[seed][seed]
        yield (
            f"seed {seed}: random's best of {trials} is {max(random):.4f}; TPE reaches it "
            f"{'not at all' if reached > trials else f'with trial {reached}'}, "
            f"and ends with {max(tpe):.4f}"
        )
    paired = statistics.median(needed[seed][seed] for seed in range(seeds))
    every = statistics.median(reached for row in needed for reached in row)
    yield f"median over seeds: trial {paired:g} of {trials}; over all pairs: {every:g}"


def _reached(values: Sequence[float], best: float) -> int:
    """Return which trial, from 1, came to a value first; one more than all where none did."""
    return next((n + 1 for n, value in enumerate(values) if value >= best), len(values) + 1)


def _rung(spark: SparkSession, fold: Fold, trials: int, repeats: int) -> Iterator[str]:
    """Search with and without an early look."""
    for seed in range(repeats):
        for rung in (None, 5):
            ran = _ran(spark, fold, "tpe", seed, trials, rung)
            best = GOAL.best(ran.done)
            stopped = sum(trial.outcome.status == "stopped" for trial in ran.done.values())
            yield (
                f"seed {seed}, {f'rung {rung}' if rung else 'no rung'}: {ran.seconds:.1f} s, "
                f"{stopped} of {trials} given up, best {best.value if best else 0:.4f}"
            )


def _ran(
    spark: SparkSession,
    fold: Fold,
    sampler: Sampler,
    seed: int,
    trials: int,
    rung: int | None = None,
) -> Ran:
    """Run a study of ALS without MLflow."""
    space = read_spaces({"als": SPACES / "als.yaml"})
    at_once = cores_of(spark)
    study = Study(space, sampler, seed, at_once)
    done: dict[int, Done] = {}
    begun = time.perf_counter()
    launch = launcher(spark, fold, space, GOAL, Placing(at_once, False, ""))
    Trials(
        study, GOAL, Limits(trials), launch, lambda: cancel(spark), _nothing, _nothing, rung
    ).run(done)
    return Ran(done, time.perf_counter() - begun)


def _nothing(_: int | Done, __: Point | Mapping[int, Done]) -> None:
    """Write nothing down."""


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})"


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("search", __doc__)
    parser.add_argument("--dataset", required=True, help="folder that prepare wrote")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--trials", type=int, default=60, help="a study; default: 60")
    parser.add_argument("--seeds", type=int, default=5, help="of the samplers; default: 5")
    parser.add_argument("--repeats", type=int, default=3, help="turns; default: 3")
    return parser


if __name__ == "__main__":
    main()
