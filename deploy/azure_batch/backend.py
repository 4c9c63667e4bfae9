"""Submitting an entry point of the MLproject as a job of Azure Batch."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure.batch import BatchClient
from azure.batch.models import BatchJobCreateOptions, BatchPoolCreateOptions, ResourceFile
from mlflow import MlflowClient
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.utils import PROJECT_SYNCHRONOUS, get_or_create_run, load_project
from mlflow.projects.utils import fetch_and_validate_project as fetched

from deploy.azure_batch.client import connect, create_once, without_signatures
from deploy.azure_batch.config import INSTALL, BackendConfig
from deploy.azure_batch.following import ERROR_TAG, AzureBatchRun
from deploy.azure_batch.job import PROJECT_ARCHIVE, Work, job_id_of, job_options
from deploy.azure_batch.staging import (
    Archive,
    Staging,
    left_behind,
    pack_environment,
    pack_project,
)
from deploy.cluster.cost import cost_of
from deploy.cluster.pool import ENVIRONMENT_ARCHIVE, ensure_pool, pool_options
from recsys.errors import RecsysError, UsageError
from recsys.progress import say
from recsys.tracking import version_of

DRY_RUN = "RECSYS_DRY_RUN"
JOB_TAG = "recsys.job_id"
# What a link outlives the job by.
SPARE = timedelta(hours=1)


@dataclass(frozen=True)
class Submission:
    """A project, packed and described, as nodes will get it."""

    config: BackendConfig
    archives: tuple[Archive, Archive]
    environment: ResourceFile
    project: ResourceFile
    code: str
    left_behind: tuple[str, ...]

    @classmethod
    def of(
        cls, config: BackendConfig, root: Path, lasts: timedelta, signs: bool = True
    ) -> "Submission":
        """Pack a project.

        Args:
            config: the backend's configuration.
            root: the project's folder.
            lasts: how long nodes may need the archives.
            signs: False where the links are only shown.
        """
        staging = Staging(config.storage, config.identity, signs)
        environment = pack_environment(root, config.pool.environment == INSTALL)
        project = pack_project(root)
        return cls(
            config,
            (environment, project),
            staging.resource(environment, ENVIRONMENT_ARCHIVE, lasts),
            staging.resource(project, PROJECT_ARCHIVE, lasts),
            version_of(root),
            tuple(left_behind(root)),
        )

    def stage(self, client: BatchClient) -> None:
        """Upload what is not there yet, and make sure of the pool."""
        staging = Staging(self.config.storage, self.config.identity)
        new = [staging.upload(archive) for archive in self.archives]
        size = len(self.archives[1].data) / 1e6
        what = f"staged, {size:.1f} MB" if new[1] else "staged before"
        say(f"  project {self.archives[1].sha256[:12]}: {what}")
        if self.left_behind:
            names = ", ".join(self.left_behind[:3])
            say(f"  not staged, because git does not know them (git add): {names}, …")
        ensure_pool(client, self.config, self.environment)

    def requests(self, job: BatchJobCreateOptions) -> dict[str, Any]:
        """Return what would be sent, without signatures."""
        return shown(pool_options(self.config, self.environment), job)


class AzureBatchBackend(AbstractBackend):
    """MLflow's backend `azure-batch`."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, Any] | None,
        version: str | None,
        backend_config: Mapping[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> AzureBatchRun:
        """Submit an entry point, see MLflow's AbstractBackend.

        Where `MLFLOW_RUN_ID` is set, this run goes on: its job is followed if there is one.

        Raises:
            ExecutionException: the message says what to correct.
        """
        try:
            config = BackendConfig.from_backend(backend_config)
            cost = cost_of(config)
            root = Path(fetched(project_uri, version, entry_point, params))  # type: ignore[no-untyped-call]
            command = command_of(root, entry_point, params or {})
            if config.dry_run or os.environ.get(DRY_RUN, "") not in ("", "0"):
                show(config, root, command, tracking_uri, experiment_id)
                raise SystemExit(0)
            check_reachable(tracking_uri, config)
            client = connect(config.batch_endpoint)
            lasts = timedelta(hours=config.max_hours) + SPARE
            submission = Submission.of(config, root, lasts)
            run = get_or_create_run(  # type: ignore[no-untyped-call]
                os.environ.get("MLFLOW_RUN_ID"),
                project_uri,
                experiment_id,
                str(root),
                version,
                entry_point,
                params,
            )
            work = Work(
                command,
                submission.project,
                tracking_uri,
                submission.code,
                run.info.run_id,
                run.info.experiment_id,
            )
            say(f"▸ {entry_point} on pool {config.pool.id}: {cost.line()}")
            submitted = submit(client, submission, work)
        except RecsysError as error:
            raise ExecutionException(str(error)) from error
        # MLflow's command line waits for its own backends only.
        if config.follow and not backend_config.get(PROJECT_SYNCHRONOUS):
            follow(submitted)
        return submitted


def follow(submitted: AzureBatchRun) -> None:
    """Wait for a run; Ctrl-C ends it.

    Raises:
        ExecutionException: it did not succeed.
    """
    try:
        succeeded = submitted.wait()
    except KeyboardInterrupt:
        submitted.cancel()
        raise
    if not succeeded:
        raise ExecutionException(f"Run {submitted.run_id} did not succeed: see its page in MLflow.")


def command_of(root: Path, entry_point: str, parameters: Mapping[str, Any]) -> str:
    """Return an entry point's command, its values quoted for the shell."""
    project = load_project(root)  # type: ignore[no-untyped-call]
    return str(project.get_entry_point(entry_point).compute_command(dict(parameters), None))


def submit(client: BatchClient, submission: Submission, work: Work) -> AzureBatchRun:
    """Stage, make sure of the pool, and make the job unless this run has one already.

    Raises:
        RecsysError: the run is closed as FAILED and carries the message.
    """
    config, run_id = submission.config, work.run_id
    if run_id is None:
        raise ValueError("a submitted run has an id")
    job_id = job_id_of(run_id)
    mlflow = MlflowClient()
    try:
        submission.stage(client)
        job = job_options(config, job_id, work)
        made = create_once(lambda: client.create_job(job))
    except Exception as error:
        mlflow.set_tag(run_id, ERROR_TAG, str(error)[:500])
        mlflow.set_terminated(run_id, "FAILED")
        raise
    mlflow.set_tag(run_id, JOB_TAG, job_id)
    say(f"  job {job_id}" + ("" if made else " is there already: following it"))
    return AzureBatchRun(client, config, run_id, job_id)


def show(
    config: BackendConfig, root: Path, command: str, tracking_uri: str, experiment_id: str | None
) -> None:
    """Print the requests that a run would send."""
    submission = Submission.of(config, root, timedelta(hours=config.max_hours), signs=False)
    run_id = os.environ.get("MLFLOW_RUN_ID", "RUN_ID")
    work = Work(command, submission.project, tracking_uri, submission.code, run_id, experiment_id)
    say(f"# {cost_of(config).line()}")
    say(json.dumps(submission.requests(job_options(config, job_id_of(run_id), work)), indent=2))


def shown(pool: BatchPoolCreateOptions, job: BatchJobCreateOptions) -> dict[str, Any]:
    """Return two requests as JSON without a link's signature."""
    text = json.dumps({"POST /pools": pool.as_dict(), "POST /jobs": job.as_dict()})
    without: dict[str, Any] = json.loads(without_signatures(text))
    return without


def check_reachable(tracking_uri: str, config: BackendConfig) -> None:
    """Raise UsageError where nodes cannot reach MLflow's store, or it holds a password."""
    parts = urlsplit(tracking_uri)
    if parts.password:
        raise UsageError(
            "MLFLOW_TRACKING_URI holds a password, which anyone may read in a job: use a server "
            "that nodes reach without one, inside their network."
        )
    if config.on_this_machine:
        return
    if parts.scheme not in ("http", "https") or parts.hostname in ("127.0.0.1", "localhost"):
        raise UsageError(
            f"MLFLOW_TRACKING_URI={tracking_uri} is on this machine, where nodes cannot reach it: "
            "start `mlflow server` on a machine of their network and give its address."
        )
