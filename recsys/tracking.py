"""The one place that logs MLflow runs: what a run carries, and how it reads in the UI."""

import logging
import os
import subprocess
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys import __version__, logged_models, plots, view
from recsys.data.dataset import Dataset
from recsys.evaluation import Evaluation, segment_table
from recsys.models import files
from recsys.once import experiment_named, run_of
from recsys.samples import sample_customers
from recsys.session import ROOT
from recsys.storage import artifact_uri, fetched
from recsys.storage.azure import redacted
from recsys.training import Trained, recipe

EXPERIMENT = "recsys"
STEP_TAG = "recsys.step"
CODE_TAG = "recsys.code_version"
DIGEST_TAG = "recsys.dataset_digest"
ALGORITHM_TAG = "recsys.algorithm"
MODEL_DIGEST_TAG = "recsys.model_digest"
MODEL_ID_TAG = "recsys.model_id"
RECIPE_TAG = "recsys.recipe"
DIGEST_SHOWN = 16
HIT_TABLE = "hits"
FACTS = (
    "validation_cut",
    "test_cut",
    "end",
    "train_rows",
    "validation_rows",
    "test_rows",
    "density",
    "test_cold_customer_share",
    "test_cold_item_share",
)

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
logging.getLogger("mlflow").setLevel(logging.WARNING)


@contextmanager
def step_run(
    step: str,
    name: str,
    parameters: Mapping[str, object],
    tags: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Open the MLflow run of one step.

    Inside another step's run it is a child; under `mlflow run` it is the run that MLflow has
    already made; otherwise a new run in the experiment `recsys` (or MLFLOW_EXPERIMENT_NAME).
    An exception marks the run FAILED and carries its message as the tag `recsys.error`.

    Args:
        step: the stage's one word (`ingest`, `als`, `compare`, …), kept as a tag.
        name: the run's name in the UI.
        parameters: what the step was asked to do; logged as run parameters.
        tags: more tags.
    """
    described = {view.NOTE: view.STEPS[step]} if step in view.STEPS else {}
    known = {STEP_TAG: step, CODE_TAG: code_version(), **described, **(tags or {})}
    with _opened(name, known) as run:
        view.describe_experiment(run.info.experiment_id)
        log_parameters(parameters)
        try:
            yield run
        except BaseException as error:
            reason = redacted(f"{type(error).__name__}: {error}")
            mlflow.set_tag("recsys.error", reason[:500])
            raise


@contextmanager
def _opened(name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """Open the run that MLflow has made already, or make one that has its tags from the start."""
    active = mlflow.active_run()
    if active is None and "MLFLOW_RUN_ID" in os.environ:
        with mlflow.start_run() as run:
            mlflow.set_tags({**tags, "mlflow.runName": name})
            yield run
        return
    if active is None:
        # By name, MLflow leaves the experiment unset where another process makes it first.
        experiment = experiment_named(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
        mlflow.set_experiment(experiment_id=experiment)
    else:
        experiment = active.info.experiment_id
    parent = {MLFLOW_PARENT_RUN_ID: active.info.run_id} if active else {}
    with opened(run_of(experiment, uuid.uuid4().hex, name, {**tags, **parent})) as run:
        yield run


@contextmanager
def opened(run: Run) -> Iterator[Run]:
    """Open a run that is there, also one of another experiment inside the open one."""
    active = mlflow.active_run()
    if active is not None:
        # MLflow refuses a run that does not lie in the current experiment.
        mlflow.set_experiment(experiment_id=run.info.experiment_id)
    try:
        with mlflow.start_run(run.info.run_id, nested=active is not None) as found:
            yield found
    finally:
        if active is not None:
            mlflow.set_experiment(experiment_id=active.info.experiment_id)


def log_parameters(parameters: Mapping[str, object]) -> None:
    """Log parameters, leaving alone those that `mlflow run` has logged already."""
    run = mlflow.active_run()
    if run is None:
        raise RuntimeError("log_parameters needs an open run")
    known = mlflow.get_run(run.info.run_id).data.params
    mlflow.log_params({k: v for k, v in parameters.items() if k not in known})


@cache
def code_version() -> str:
    """Return the git commit (with `+changes` where the tree differs from it), else the version.

    Where the code came as an archive, RECSYS_CODE_VERSION tells the commit that it was made of.
    """
    return os.environ.get("RECSYS_CODE_VERSION") or version_of(ROOT)


def version_of(project: Path) -> str:
    """Return the version of a project in a folder; see `code_version`."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(project), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return __version__


def log_dataset(dataset: Dataset, context: str) -> None:
    """Log a dataset as the run's input, and its digest, cuts and counts as parameters."""
    with warnings.catch_warnings():
        # A local folder fits two of MLflow's source classes; either will do.
        warnings.simplefilter("ignore", UserWarning)
        path = dataset.path.absolute() if isinstance(dataset.path, Path) else dataset.path
        source = resolve_dataset_source(artifact_uri(path))
    digest = dataset.digest[:DIGEST_SHOWN]
    # MLflow leaves `profile` abstract in a class that it means to be used as it is.
    described = MetaDataset(source, name=dataset.path.name, digest=digest)  # type: ignore[abstract]
    mlflow.log_input(described, context=context)
    mlflow.set_tag(DIGEST_TAG, dataset.digest)
    known = {
        "dataset_digest": digest,
        "windows": 1 + len(dataset.earlier),
        "customers": dataset.test.history.customers,
        "items": dataset.test.history.items,
    }
    log_parameters(known | {name: dataset.facts[name] for name in FACTS})


def log_training(trained: Trained, dataset: Dataset, run: Run, segments: Sequence[str] = ()) -> str:
    """Log a training run: model, metrics, tables, plots, samples, and what to look at.

    Args:
        trained: what the run made.
        dataset: that it was trained on.
        run: that is open.
        segments: columns of the customers or items table whose groups are judged separately.

    Returns:
        The URI of the logged model.
    """
    mlflow.set_tags(
        {
            ALGORITHM_TAG: trained.algorithm,
            MODEL_DIGEST_TAG: trained.digest,
            RECIPE_TAG: recipe(trained.algorithm, trained.parameters),
        }
    )
    example = pd.DataFrame({"customer_id": _first_customers(trained)})
    metadata = {
        "algorithm": trained.algorithm,
        "model_digest": trained.digest,
        "dataset_digest": dataset.digest,
    }
    model = logged_models.log_model(trained.model, run, metadata, example)
    mlflow.set_tag(MODEL_ID_TAG, model.model_id)
    metrics = {k: v for e in trained.evaluations for k, v in e.metrics().items()}
    # MLflow's comparison page draws the metric that was logged first.
    first = {view.SORTED_BY: metrics.pop(view.SORTED_BY)}
    for logged in (first, metrics | _size_and_speed(trained)):
        rounded = {name: _rounded(value) for name, value in logged.items()}
        mlflow.log_metrics(rounded, model_id=model.model_id)
    for step, values in trained.steps.items():
        mlflow.log_metrics({f"train/{n}": _rounded(v) for n, v in values.items()}, step=step)
    for evaluation in trained.evaluations:
        mlflow.log_table(_estimates(evaluation), f"metrics/{evaluation.window}.json")
        mlflow.log_artifacts(str(fetched(evaluation.table)), f"{HIT_TABLE}/{evaluation.window}")
    test = trained.test
    mlflow.log_figure(plots.metric_by_k(test), "plots/ndcg_by_k.png")
    mlflow.log_figure(plots.metric_by_k(test, "recall"), "plots/recall_by_k.png")
    mlflow.log_figure(plots.popularity_and_recommendations(test), "plots/popularity.png")
    for name in sorted({name for values in trained.steps.values() for name in values}):
        figure = plots.steps({step: v[name] for step, v in trained.steps.items()}, name)
        mlflow.log_figure(figure, f"plots/{name}.png")
    mlflow.log_table(segment_table(test, dataset.folder, segments), "segments.json")
    for question in test.estimates:
        table = sample_customers(test, dataset.test, question)
        mlflow.log_table(table, f"samples/{question}.json")
    mlflow.set_tag(view.NOTE, _note(trained, dataset, run.info.experiment_id))
    return str(model.model_uri)


def _size_and_speed(trained: Trained) -> dict[str, float]:
    size = sum(file.stat().st_size for file in trained.model.rglob("*") if file.is_file())
    return {
        "train/model_bytes": size,
        "train/fit_seconds": trained.fit_seconds,
        "test/items_per_second": round(trained.test.items_per_second),
    }


def _estimates(evaluation: Evaluation) -> pd.DataFrame:
    """Put every metric with its interval into a table; runs carry the intervals at 10 alone."""
    return pd.DataFrame(
        [
            {"question": question, "metric": name}
            | {end: _rounded(value) for end, value in asdict(interval).items()}
            for question, estimates in evaluation.estimates.items()
            for name, interval in estimates.items()
        ]
    )


def _first_customers(trained: Trained) -> list[str]:
    """Return three customers for the model's input example."""
    customers = pq.ParquetFile(trained.model / files.CUSTOMERS)
    return [str(i) for i in next(customers.iter_batches(3)).column(0).to_pylist()]


def _rounded(value: float) -> float:
    """Round to six digits, which is what the UI has room for."""
    return round(float(value), 6)


def _note(trained: Trained, dataset: Dataset, experiment_id: str) -> str:
    """Write the run's description: what it is, how it did, where to look next."""
    lines = [
        f"**{trained.algorithm}** on dataset `{dataset.digest[:DIGEST_SHOWN]}`, "
        f"fitted on everything before {dataset.facts['test_cut'][:10]}, "
        f"judged on the {dataset.facts['end_day'] - dataset.facts['test_cut_day']} days after it.",
        "",
        "| question | ndcg@10 (95 % interval) | recall@10 | coverage@10 |",
        "|---|---|---|---|",
    ]
    for question, found in trained.test.estimates.items():
        ndcg, recall, coverage = (found[f"{n}_at_10"] for n in ("ndcg", "recall", "coverage"))
        lines.append(
            f"| {question} | {ndcg.value:.4f} ({ndcg.low:.4f} … {ndcg.high:.4f}) "
            f"| {recall.value:.4f} | {coverage.value:.3f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "*discover*: bought items excluded. *replenish*: bought items allowed. *campaign*: as "
            "the strategy says.",
            "",
            "**Next.** Under *Artifacts*: `plots/` (quality by length of the list, who gets the "
            "shelf), `samples/` (twenty customers side by side), `segments.json` (for whom it "
            "works), `metrics/` (every metric with its interval). Then "
            f"[all runs, best first]({view.view_address(experiment_id, host='')}), and "
            f"`python -m registry.compare --dataset {dataset.path}` for the decision.",
        ]
    )
