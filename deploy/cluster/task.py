"""What a task on a node was told: by Batch, and by the backend through the task's environment."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.azure_batch.job import slot_of, work_folder
from recsys.errors import UsageError


@dataclass(frozen=True)
class NodeTask:
    """A task on a node.

    Attributes:
        job_id: Batch's id of the job.
        task_id: Batch's id of the task.
        account_url: the Batch account.
        folder: the task's own folder on this node's disk.
        storage: the configuration's `storage`.
        command: the entry point's command.
        workers: how many workers the job has; 0: none, `local[*]`.
        capacity_minutes: how long to wait for a first worker.
        max_hours: how long the job may last.
        schedule: the schedule's name, where it is one.
        executor_memory: heap of an executor.
    """

    job_id: str
    task_id: str
    account_url: str
    folder: Path
    storage: str
    command: str
    workers: int
    capacity_minutes: float
    max_hours: float
    schedule: str | None
    executor_memory: str | None

    @classmethod
    def from_environment(cls, values: Mapping[str, str]) -> "NodeTask":
        """Read the task's environment; raises UsageError where this is no task of Batch."""
        try:
            return cls(
                job_id=values["AZ_BATCH_JOB_ID"],
                task_id=values["AZ_BATCH_TASK_ID"],
                account_url=values["AZ_BATCH_ACCOUNT_URL"],
                folder=Path(values["AZ_BATCH_TASK_WORKING_DIR"]),
                storage=values["RECSYS_STORAGE"],
                command=values["RECSYS_COMMAND"],
                workers=int(values["RECSYS_WORKERS"]),
                capacity_minutes=float(values["RECSYS_CAPACITY_MINUTES"]),
                max_hours=float(values["RECSYS_MAX_HOURS"]),
                schedule=values.get("RECSYS_SCHEDULE"),
                executor_memory=values.get("RECSYS_EXECUTOR_MEMORY"),
            )
        except KeyError as missing:
            raise UsageError(
                f"This is no task of Azure Batch ({missing.args[0]} is not set): submit with "
                "`mlflow run . --backend azure-batch`."
            ) from None

    @property
    def address(self) -> str:
        """The node's address, as the other nodes reach it."""
        given = os.environ.get("SPARK_LOCAL_IP")
        return given or _address_towards(urlsplit(self.account_url).hostname or "")

    def environment(self) -> dict[str, str]:
        """Return what Spark's programs and the entry point get beside the task's environment.

        Python is found through the PATH, which begins with the environment on every node.
        """
        project = str(Path.cwd())
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": project,
            "PYSPARK_PYTHON": "python",
            "PYSPARK_DRIVER_PYTHON": "python",
            "SPARK_LOCAL_IP": self.address,
            "SPARK_LOCAL_DIRS": str(disk),
            "TMPDIR": str(disk),
            "RECSYS_SCRATCH": f"{work_folder(self.storage, self.job_id)}/scratch",
            "RECSYS_SLOT": slot_of(self.job_id),
        }


def _address_towards(host: str) -> str:
    """Return the address that this machine speaks to a host from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 443))
        return str(probe.getsockname()[0])
