"""What training runs left in MLflow, as `compare` needs it."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from recsys.errors import DataError
from recsys.storage import digests_in
from recsys.tracking import (
    ALGORITHM_TAG,
    CODE_TAG,
    DIGEST_SHOWN,
    DIGEST_TAG,
    HIT_TABLE,
    MODEL_DIGEST_TAG,
    MODEL_ID_TAG,
    RECIPE_TAG,
    STEP_TAG,
)


@dataclass(frozen=True)
class Entrant:
    """A training run that takes part in a comparison.

    Attributes:
        run_id: its id.
        name: its name in the UI.
        algorithm: name of the recommender.
        model_digest: SHA-256 of the model's manifest.
        model_uri: of the logged model.
        started: milliseconds since 1970.
        experiment_id: where it was logged.
        recipe: digest of recommender and hyperparameters.
        code: version of the code that trained it.
        metrics: all that it logged.
        parameters: all that it logged.
    """

    run_id: str
    name: str
    algorithm: str
    model_digest: str
    model_uri: str
    started: int
    experiment_id: str
    recipe: str
    code: str
    metrics: dict[str, float]
    parameters: dict[str, str]


def entrants(dataset_digest: str, run_ids: Sequence[str] = ()) -> list[Entrant]:
    """Return the finished training runs on a dataset, the oldest first.

    Runs of one recommender with equal models (trained again with the same parameters) count once,
    the newest of them.

    Args:
        dataset_digest: of the dataset that all were judged on.
        run_ids: only these; empty for all.

    Raises:
        DataError: a run of `run_ids` is no finished training run on this dataset.
    """
    client = MlflowClient()
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = mlflow.search_runs(
        experiment_ids=experiments,
        filter_string=(
            f"tags.`{DIGEST_TAG}` = '{dataset_digest}' and tags.`{MODEL_DIGEST_TAG}` != '' "
            "and attributes.status = 'FINISHED'"
        ),
        order_by=["attributes.start_time ASC"],
        output_format="list",
    )
    found = [e for e in map(_entrant, runs) if e is not None]
    for run_id in run_ids:
        if run_id not in {e.run_id for e in found}:
            raise DataError(_why_not(client, run_id, dataset_digest))
    wanted = [e for e in found if not run_ids or e.run_id in run_ids]
    newest = {e.model_digest: e for e in wanted}
    return sorted(newest.values(), key=lambda e: e.started)


def _why_not(client: MlflowClient, run_id: str, dataset_digest: str) -> str:
    """Say why a run cannot be compared."""
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return f"There is no run {run_id}: copy its id from the MLflow UI."
    digest = run.data.tags.get(DIGEST_TAG)
    if digest is None or MODEL_DIGEST_TAG not in run.data.tags:
        return f"Run {run_id} trained no model: choose a training run."
    if run.data.tags.get(STEP_TAG) == "refit":
        return f"Run {run_id} is a refit, which was never judged: choose the run that it refits."
    if digest != dataset_digest:
        return (
            f"Run {run_id} was judged on dataset {digest[:DIGEST_SHOWN]}, not on "
            f"{dataset_digest[:DIGEST_SHOWN]}: only runs on one dataset can be compared, so train "
            "it again on this one."
        )
    return f"Run {run_id} is {run.info.status}: wait until it has finished, or train it again."


def _entrant(run: Run) -> Entrant | None:
    """Read one run; None where its model was never logged."""
    outputs = run.outputs.model_outputs if run.outputs else []
    tags = run.data.tags
    # Of a run that was killed and went on, the model that was logged last and whole.
    model = tags.get(MODEL_ID_TAG) or (outputs[0].model_id if outputs else None)
    if model is None:
        return None
    return Entrant(
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        tags[ALGORITHM_TAG],
        tags[MODEL_DIGEST_TAG],
        f"models:/{model}",
        run.info.start_time,
        run.info.experiment_id,
        tags.get(RECIPE_TAG, ""),
        tags.get(CODE_TAG, ""),
        dict(run.data.metrics),
        dict(run.data.params),
    )


class HitTables:
    """The hit tables of runs; those used last are kept, so that a champion's is fetched once.

    Attributes:
        digests: `<run>/<window>` → SHA-256 of each table that was read.
    """

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self._fetched = lru_cache(maxsize=8)(_fetch)

    def of(self, entrant: Entrant, window: str) -> pa.Table:
        """Return the hit table that a run logged for a window.

        Raises:
            DataError: the run has none.
        """
        table, digest = self._fetched(entrant.run_id, window)
        self.digests[f"{entrant.run_id}/{window}"] = digest
        return table


def _fetch(run_id: str, window: str) -> tuple[pa.Table, str]:
    with tempfile.TemporaryDirectory(prefix="recsys-hits-") as scratch:
        try:
            folder = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=f"{HIT_TABLE}/{window}", dst_path=scratch
            )
            digests = json.dumps(sorted(digests_in(Path(folder))))
            return pq.read_table(Path(folder)), hashlib.sha256(digests.encode()).hexdigest()
        except (MlflowException, OSError, pa.ArrowInvalid):
            raise DataError(
                f"Run {run_id} has no readable hit table for the window {window}: train it again."
            ) from None
