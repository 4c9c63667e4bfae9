"""The requests that make a job: a job manager, which is the driver, and the workers it adds.

The backend and a schedule give only the driver. The driver adds its workers itself, with what it
was given itself, so that a job of a schedule needs nobody outside to start it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from azure.batch.models import (
    BatchJobConstraints,
    BatchJobCreateOptions,
    BatchJobManagerTask,
    BatchJobSpecification,
    BatchPoolInfo,
    BatchTask,
    BatchTaskConstraints,
    BatchTaskContainerSettings,
    BatchTaskCreateOptions,
    EnvironmentSetting,
    ResourceFile,
)

from deploy.azure_batch.config import INSTALL, BackendConfig
from registry.ledger import VARIABLE as LEDGER

DRIVER = "driver"
PROJECT_ARCHIVE = "project.tar.gz"
AGAIN_AND_AGAIN = -1
# bash keeps the task's process, so that a signal reaches the program itself.
UNPACK_AND_RUN = (
    "/bin/bash -c 'mkdir -p project && tar -xzf {archive} -C project && cd project && "
    'exec "${{RECSYS_VENV:-$AZ_BATCH_NODE_SHARED_DIR/recsys/venv}}/bin/python" '
    "-m deploy.cluster.node {role}'"
)


@dataclass(frozen=True)
class Work:
    """What a job is to do.

    Attributes:
        command: the entry point's command, for a shell in the project's folder.
        project: the project's archive, as nodes get it.
        tracking_uri: MLflow's server.
        code_version: the git commit, which an archive does not hold.
        run_id: the run to go on with; None: the driver makes one a job.
        experiment_id: MLflow's experiment; None: the default one.
        schedule: the schedule's name, where it is one.
    """

    command: str
    project: ResourceFile
    tracking_uri: str
    code_version: str
    run_id: str | None = None
    experiment_id: str | None = None
    schedule: str | None = None


def job_id_of(run_id: str) -> str:
    """Return the id of a run's job: the same run is never submitted twice."""
    return f"recsys-{run_id}"


def work_folder(storage: str, job_id: str) -> str:
    """Return where the tasks of a job share files while it runs."""
    return f"{storage.rstrip('/')}/jobs/{slot_of(job_id)}"


def slot_of(job_id: str) -> str:
    """Return a job's id as a name for files: `nightly:job-3` → `nightly-job-3`."""
    return re.sub(r"[^\w.-]", "-", job_id)


def job_options(config: BackendConfig, job_id: str, work: Work) -> BatchJobCreateOptions:
    """Describe a job of its own."""
    return BatchJobCreateOptions(
        id=job_id,
        pool_info=BatchPoolInfo(pool_id=config.pool.id),
        job_manager_task=driver_task(config, work),
        constraints=_constraints(config),
    )


def job_specification(config: BackendConfig, work: Work) -> BatchJobSpecification:
    """Describe the jobs of a schedule."""
    return BatchJobSpecification(
        pool_info=BatchPoolInfo(pool_id=config.pool.id),
        job_manager_task=driver_task(config, work),
        constraints=_constraints(config),
    )


def driver_task(config: BackendConfig, work: Work) -> BatchJobManagerTask:
    """Describe the driver.

    Its exit code is the job's answer, so it is not tried again; that a preempted driver is run
    again is no retry and does not count.
    """
    return BatchJobManagerTask(
        id=DRIVER,
        command_line=UNPACK_AND_RUN.format(archive=PROJECT_ARCHIVE, role=DRIVER),
        container_settings=_container(config),
        resource_files=[work.project],
        environment_settings=[
            EnvironmentSetting(name=name, value=value)
            for name, value in sorted(environment(config, work).items())
        ],
        constraints=BatchTaskConstraints(max_task_retry_count=0),
        kill_job_on_completion=True,
        run_exclusive=False,
        allow_low_priority_node=config.pool.driver == "spot",
    )


def worker_task(number: int, driver: BatchTask) -> BatchTaskCreateOptions:
    """Describe a worker, which gets all that the driver was given."""
    return BatchTaskCreateOptions(
        id=f"worker-{number}",
        command_line=UNPACK_AND_RUN.format(archive=PROJECT_ARCHIVE, role="worker"),
        container_settings=driver.container_settings,
        resource_files=driver.resource_files,
        environment_settings=driver.environment_settings,
        constraints=BatchTaskConstraints(max_task_retry_count=AGAIN_AND_AGAIN),
    )


def environment(config: BackendConfig, work: Work) -> dict[str, str]:
    """Return the tasks' environment variables, which hold no secrets: anyone may read them."""
    pool = config.pool
    values: Mapping[str, object | None] = {
        **config.variables,
        "MLFLOW_TRACKING_URI": work.tracking_uri,
        "MLFLOW_RUN_ID": work.run_id,
        "MLFLOW_EXPERIMENT_ID": work.experiment_id,
        "AZURE_CLIENT_ID": config.client_id,
        "SPARK_DRIVER_MEMORY": config.driver_memory,
        "RECSYS_COMMAND": work.command,
        "RECSYS_CODE_VERSION": work.code_version,
        LEDGER: os.environ.get(LEDGER),
        "RECSYS_STORAGE": config.storage,
        "RECSYS_SCHEDULE": work.schedule,
        "RECSYS_VENV": None if pool.environment == INSTALL else pool.environment,
        "RECSYS_WORKERS": pool.workers,
        "RECSYS_CAPACITY_MINUTES": f"{config.capacity_minutes:g}",
        "RECSYS_MAX_HOURS": f"{config.max_hours:g}",
        "RECSYS_EXECUTOR_MEMORY": config.executor_memory,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _constraints(config: BackendConfig) -> BatchJobConstraints:
    return BatchJobConstraints(max_wall_clock_time=timedelta(hours=config.max_hours))


def _container(config: BackendConfig) -> BatchTaskContainerSettings | None:
    image = config.pool.container_image
    # Spark's ports must be reachable from the other nodes.
    options = "--rm --network host"
    if image is None:
        return None
    return BatchTaskContainerSettings(image_name=image, container_run_options=options)
