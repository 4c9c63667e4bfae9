"""Train one recommender on a dataset, judge it, and log it as an MLflow run.

python -m experiments.train als --dataset out/dataset
python -m experiments.train als --help
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from recsys import cli, tracking
from recsys.config import Config
from recsys.data.dataset import load_dataset
from recsys.models import ALGORITHMS
from recsys.models.base import Hyperparameters
from recsys.progress import say
from recsys.segments import SEGMENTS_HELP
from recsys.session import Pool, scratch_folder, spark_session
from recsys.storage import beside, place_of
from recsys.strategy import Strategy, load_strategy
from recsys.training import run_name, train
from recsys.view import run_address, view_address

CHECKPOINTS_HELP = (
    "folder in which a long fit keeps its state, so that the same command goes on after a crash; "
    "none: `checkpoints` beside the dataset"
)
STRATEGY_HELP = (
    "name in deploy/strategies, or path of a YAML file, under whose rule on bought items the run "
    "is judged, too (metrics `campaign/…`); none: under the two usual rules alone"
)


@dataclass(frozen=True)
class TrainedRun:
    """A training run that others refer to."""

    run_id: str
    algorithm: str
    metrics: dict[str, float]


def run_train(
    algorithm: str,
    dataset_path: str,
    parameters: Hyperparameters,
    pool: Pool,
    segments: Sequence[str] = (),
    checkpoints: str | None = None,
    strategy: Strategy | None = None,
) -> TrainedRun:
    """Train, judge and log one recommender.

    Args:
        algorithm: name of the recommender, also the run's step.
        dataset_path: folder that `prepare` wrote.
        parameters: its hyperparameters.
        pool: where the tasks run.
        segments: columns of the customers or items table whose groups are judged separately.
        checkpoints: folder for a long fit's state; None: beside the dataset.
        strategy: under whose rule on bought items the run is judged, too.
    """
    dataset = load_dataset(dataset_path)
    logged: dict[str, Any] = {"algorithm": algorithm, "dataset": dataset_path}
    if strategy:
        logged["strategy"] = f"{strategy.name} {strategy.digest[:12]}"
    with (
        tracking.step_run(
            algorithm, run_name(algorithm, parameters), logged | parameters.model_dump()
        ) as run,
        scratch_folder(pool, algorithm) as scratch,
        tempfile.TemporaryDirectory(prefix="recsys-model-") as model,
    ):
        tracking.log_dataset(dataset, "train")
        kept = place_of(checkpoints) if checkpoints else beside(dataset.path, "checkpoints")
        saved = Path(model) / "model"
        trained = train(pool, dataset, algorithm, parameters, scratch, saved, kept, strategy)
        tracking.log_training(trained, dataset, run, segments)
        for question, found in trained.test.estimates.items():
            ndcg = found["ndcg_at_10"]
            say(
                f"  {algorithm}, {question}: test ndcg@10 "
                f"{ndcg.value:.4f} ({ndcg.low:.4f} … {ndcg.high:.4f})"
            )
        experiment = run.info.experiment_id
        say(f"  this run: {run_address(experiment, run.info.run_id)}")
        say(f"  all runs, best first: {view_address(experiment)}")
        return TrainedRun(run.info.run_id, algorithm, trained.test.metrics())


def train_config(algorithm: str) -> type[Config]:
    """Return the parameters of training one recommender: the dataset, then its hyperparameters."""
    return create_model(
        f"Train_{algorithm}",
        __base__=ALGORITHMS[algorithm].parameters_class,
        dataset=(str, Field(description="folder that prepare wrote")),
        segments=(str | None, Field(None, description=SEGMENTS_HELP)),
        checkpoints=(str | None, Field(None, description=CHECKPOINTS_HELP)),
        strategy=(str | None, Field(None, description=STRATEGY_HELP)),
    )


def main(algorithm: str, arguments: list[str]) -> None:
    """Parse the parameters of one recommender and train it in a session of its own."""

    def step(config: Config) -> None:
        values = config.model_dump()
        dataset, columns = values.pop("dataset"), cli.names(values.pop("segments"))
        checkpoints, name = values.pop("checkpoints"), values.pop("strategy")
        strategy = load_strategy(name) if name else None
        parameters = ALGORITHMS[algorithm].parameters_class(**values)
        load_dataset(dataset)
        spark = spark_session(algorithm, dataset, checkpoints)
        run_train(algorithm, dataset, parameters, spark, columns, checkpoints, strategy)

    program = f"python -m experiments.train {algorithm}"
    cli.run(step, train_config(algorithm), __doc__, program, arguments)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ALGORITHMS:
        print(f"{__doc__}\nrecommenders: {', '.join(ALGORITHMS)}", file=sys.stderr)
        raise SystemExit(2)
    main(sys.argv[1], sys.argv[2:])
