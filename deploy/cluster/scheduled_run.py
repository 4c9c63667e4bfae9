"""The MLflow run of a scheduled job: one a job, also where its driver is run again."""

import os

from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from recsys.errors import ClusterError
from recsys.once import experiment_named, run_of
from recsys.tracking import EXPERIMENT

JOB_TAG = "recsys.job_id"
SCHEDULE_TAG = "recsys.schedule"


def open_run(schedule: str, job_id: str) -> str:
    """Return the id of the job's run, made where there is none yet.

    Raises:
        ClusterError: MLflow's server does not answer.
    """
    try:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or experiment_named(
            os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        )
        tags = {JOB_TAG: job_id, SCHEDULE_TAG: schedule}
        return str(run_of(experiment, job_id, schedule, tags).info.run_id)
    except MlflowException as error:
        raise ClusterError(
            f"MLflow's server does not take the run ({str(error).splitlines()[0]}): check "
            "MLFLOW_TRACKING_URI and that the nodes reach it."
        ) from error


def close_run(run_id: str, exit_code: int) -> None:
    """End a run that the entry point could not end itself."""
    client = MlflowClient()
    try:
        if not RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status)):
            client.set_terminated(run_id, "FAILED" if exit_code else "FINISHED")
    except MlflowException as error:
        print(f"  the run cannot be closed ({type(error).__name__})", flush=True)
