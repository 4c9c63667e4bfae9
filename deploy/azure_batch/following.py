"""A submitted run: wait for it, cancel it, and give the MLflow run the status of its job."""

import time
from contextlib import suppress

from azure.batch import BatchClient
from azure.batch.models._models import BatchJobTerminateOptions
from azure.core.exceptions import AzureError, ResourceNotFoundError
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.projects.submitted_run import SubmittedRun

from deploy.azure_batch.client import explained
from deploy.azure_batch.config import BackendConfig
from deploy.azure_batch.watch import Ended, Watch
from deploy.cluster.rendezvous import clean
from recsys.errors import ClusterError, RecsysError
from recsys.progress import say

ERROR_TAG = "recsys.error"
# So many looks in a row may fail before a job is given up.
PATIENCE = 10
TERMINATED_WITHIN = 120.0


class AzureBatchRun(SubmittedRun):
    """What `mlflow run` follows; the job goes on where nobody waits for it."""

    def __init__(
        self, client: BatchClient, config: BackendConfig, run_id: str, job_id: str
    ) -> None:
        super().__init__()
        self.client, self.config = client, config
        self.job_id = job_id
        self._run_id = run_id
        self._status = RunStatus.RUNNING

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return self._run_id

    def get_status(self) -> str:
        """Return MLflow's word for the state that is known."""
        return str(RunStatus.to_string(self._status))

    def wait(self) -> bool:
        """Follow the job to its end; returns whether it succeeded.

        However this ends, but for an interruption, the job has ended and the run is closed.
        """
        watch = Watch(self.client, self.config, self.job_id)
        try:
            ended = self._follow(watch)
        except ClusterError as error:
            self._terminate("recsys: given up")
            self._close(RunStatus.FAILED, str(error))
            say(f"error: {error}")
            return False
        status = RunStatus.FINISHED if ended.exit_code == 0 else RunStatus.FAILED
        status = RunStatus.KILLED if ended.by_hand else status
        self._await_end()
        self._close(status, None if ended.exit_code == 0 else ended.told)
        say(f"  job {self.job_id}: {ended.told}")
        return status == RunStatus.FINISHED

    def cancel(self) -> None:
        """End the job and what it runs; the run is KILLED."""
        say(f"  ending job {self.job_id}")
        self._terminate("recsys: cancelled")
        self._close(RunStatus.KILLED, "cancelled")

    def _follow(self, watch: Watch) -> Ended:
        """Look until the job ended; an answer that fails now and then is no end."""
        failures = 0
        while True:
            try:
                ended = watch.look()
                failures = 0
                if ended is not None:
                    return ended
            except AzureError as error:
                failures += 1
                if failures >= PATIENCE:
                    raise ClusterError(explained(error)) from error
                say(f"  {explained(error)}")
            time.sleep(self.config.poll_seconds)

    def _terminate(self, reason: str) -> None:
        """End the job, if it is there, and wait until nothing of it runs."""
        options = BatchJobTerminateOptions(termination_reason=reason)
        with suppress(AzureError):
            self.client.begin_terminate_job(
                self.job_id, options, polling_interval=max(1, int(self.config.poll_seconds))
            )
        self._await_end()

    def _await_end(self) -> None:
        """Wait, not for ever, until the service has ended all tasks of the job."""
        end = time.monotonic() + TERMINATED_WITHIN
        while time.monotonic() < end:
            try:
                if self.client.get_job(self.job_id).state == "completed":
                    return
            except ResourceNotFoundError:
                return
            except AzureError as error:
                say(f"  {explained(error)}")
            time.sleep(min(1.0, self.config.poll_seconds))

    def _close(self, status: int, error: str | None) -> None:
        """Give the run its status, say why, and remove what its tasks shared."""
        self._status = status
        client = MlflowClient()
        run = client.get_run(self._run_id)
        if error and ERROR_TAG not in run.data.tags:
            client.set_tag(self._run_id, ERROR_TAG, error[:500])
        if run.info.status != RunStatus.to_string(status):
            client.set_terminated(self._run_id, RunStatus.to_string(status))
        with suppress(RecsysError):
            clean(self.config.storage, self.job_id)
