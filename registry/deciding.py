"""What promote and rollback share: keep the evidence, commit the record, show it in MLflow."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from recsys import tracking
from recsys.drivers import DRIVER_TAG, driver, is_alive
from recsys.errors import RegistryError
from recsys.progress import say, stage
from recsys.storage import CommitConflict
from registry import projection
from registry.history import log_history
from registry.ledger import PROMOTE, ROLLBACK, Generation, Ledger, Record
from registry.releases import RELEASE, releases_of
from registry.told import GLANCED, NOBODY, approved_by, plain, row, what

RECORD = "record.json"
STEPS = (PROMOTE, ROLLBACK, RELEASE)
# No decision takes so long; who began one on another machine cannot be asked.
LONGEST = 86_400.0


@contextmanager
def decision_run(step: str, model_name: str, parameters: Mapping[str, object]) -> Iterator[None]:
    """Open the run of a decision, and close those that a kill has left open.

    Args:
        step: PROMOTE or ROLLBACK.
        model_name: the registered model of the releases.
        parameters: what was asked; logged as run parameters.
    """
    with tracking.step_run(step, step, parameters, {DRIVER_TAG: driver()}) as run, stage(step):
        _close_left(run.info.experiment_id, model_name)
        yield


def log_evidence(record: Record, files: Mapping[str, bytes], head: Generation | None) -> None:
    """Keep evidence and approvals in the release run, before they are relied on.

    Args:
        record: that is about to be committed.
        files: name → content: dossier, decision, a refit's checks.
        head: the generation that it follows.
    """
    client, folder = MlflowClient(), _folder(record, head.number + 1 if head else 1)
    for name, data in files.items():
        client.log_text(record.run_id, data.decode(), f"{folder}/{name}")
    approvals = list(record.approvals) or NOBODY
    client.log_dict(record.run_id, {"approvals": approvals}, f"{folder}/approvals.json")


def decided(ledger: Ledger, record: Record, head: Generation | None) -> Generation:
    """Commit a record.

    Raises:
        RegistryError: somebody else decided meanwhile, or the ledger has lost a generation.
    """
    if head is not None:
        projection.wait_until_shown(head)
    projection.witnessed(ledger)
    try:
        found = ledger.append(record, head)
    except CommitConflict:
        winner = ledger.history()[head.number if head else 0]
        raise RegistryError(
            f"{plain(winner.record.reviewer, GLANCED)} decided first: {what(winner)}, generation "
            f"{winner.number}, at {winner.time} "
            f"({plain(winner.record.reason, GLANCED) or 'no reason given'}). Yours was not "
            "recorded: look at the history (python -m registry.history --model_name "
            f"{record.model_name}), and decide again."
        ) from None
    say(f"  generation {found.number}: {what(found)}")
    say(f"  approved by: {plain(approved_by(found))}")
    return found


def shown(head: Generation) -> None:
    """Let MLflow show what the ledger says, and at last keep the record beside the evidence."""
    record = head.record
    projection.show(record.model_name, repair=True)
    log_history(record.model_name)
    mlflow.set_tag("recsys.generation", f"{record.stage} {head.number}")
    text = json.dumps(row(head), indent=1, ensure_ascii=False)
    MlflowClient().log_text(record.run_id, text, f"{_folder(record, head.number)}/{RECORD}")


def was_cut_short(head: Generation) -> bool:
    """Tell whether whoever decided did not come to the end of `shown`."""
    folder = _folder(head.record, head.number)
    listed = MlflowClient().list_artifacts(head.record.run_id, folder)
    # A kill may leave an empty file.
    return f"{folder}/{RECORD}" not in [file.path for file in listed if file.file_size != 0]


def close_left(model_name: str) -> int:
    """Close the runs that killed decisions left open; returns how many.

    Args:
        model_name: the registered model of the releases.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", tracking.EXPERIMENT)
    found = mlflow.get_experiment_by_name(name)
    return _close_left(found.experiment_id, model_name) if found else 0


def _close_left(experiment: str, model_name: str) -> int:
    """Mark as KILLED the runs of decisions whose process is gone; returns how many."""
    client = MlflowClient()
    running = client.search_runs(
        [experiment, *_releases(model_name)], "attributes.status = 'RUNNING'"
    )
    left = [run for run in running if run.data.tags.get(tracking.STEP_TAG) in STEPS]
    # Read again: a process that is gone may have ended its run well meanwhile.
    left = [run for run in left if _is_left(run) and _is_open(run)]
    for run in left:
        client.set_terminated(run.info.run_id, "KILLED")
    return len(left)


def _is_left(run: Run) -> bool:
    """Tell whether nobody is at work on a run."""
    name, here = run.data.tags.get(DRIVER_TAG, ""), driver().partition(" ")[0]
    if name.partition(" ")[0] == here:
        return not is_alive(name)
    return bool(run.info.start_time / 1000 < time.time() - LONGEST)


def _is_open(run: Run) -> bool:
    return bool(MlflowClient().get_run(run.info.run_id).info.status == "RUNNING")


def _releases(model_name: str) -> list[str]:
    """Return the experiment of the releases, if there is one."""
    found = mlflow.get_experiment_by_name(releases_of(model_name))
    return [found.experiment_id] if found else []


def _folder(record: Record, generation: int) -> str:
    """Name the folder of a generation's evidence in the release run."""
    return f"evidence/{record.stage}-{generation:04d}"
