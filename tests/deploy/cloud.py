"""A cloud on this machine: Azurite, the stand-in for Batch, and a small project to run there."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import azurite
from tests.batch_service.server import running
from tests.batch_service.service import BatchService

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
POOL = "recsys"
MLPROJECT = """
name: tiny
entry_points:
  main:
    parameters:
      code: {type: float, default: 0}
      seconds: {type: float, default: 0}
      text: {type: string, default: none}
    command: python work.py {code} {seconds} {text}
"""
WORK = """
import os, sys, time
print("hello from", os.environ["SPARK_MASTER"], "with", sys.argv[3], flush=True)
print("error: on standard error", file=sys.stderr, flush=True)
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[1]))
"""


@dataclass
class Cloud:
    """What a test needs of it.

    Attributes:
        service: the stand-in for Batch.
        storage: URL of a container.
        project: folder of a small MLflow project.
        disk: a folder that nodes see.
    """

    service: BatchService
    storage: str
    project: Path
    disk: Path

    def config(self, **values: Any) -> dict[str, Any]:
        """Return a backend configuration for one node, with other values where given."""
        pool = {"id": POOL, "environment": str(VENV), "workers": 0, "driver": "spot"}
        pool |= values.pop("pool", {})
        base = {"batch_endpoint": self.service.url, "storage": self.storage, "pool": pool}
        usual = {"poll_seconds": 0.2, "capacity_minutes": 1, "follow": False}
        return base | usual | values


@contextmanager
def impatient(service: BatchService) -> Iterator[None]:
    """Evaluate every pool's formula several times a second, not every five minutes."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.2):
            for pool in list(service.pools):
                try:
                    service.evaluate(pool)
                except KeyError:
                    continue

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def image() -> dict[str, str]:
    """Return what a machine's image provides: programs, and the identity's way to storage."""
    java = {"JAVA_HOME": os.environ["JAVA_HOME"]} if "JAVA_HOME" in os.environ else {}
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    path = f"{VENV / 'bin'}:{usual}"
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    return {"PATH": path, **java, **azurite.environment(), **quiet}


@contextmanager
def cloud(connection: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Start the stand-in for Batch; credentials go into this process's environment."""
    storage = azurite.container(connection, patch)
    disk = Path(tempfile.mkdtemp(prefix="recsys-cloud-", dir="/var/tmp"))
    given = image()
    try:
        with (
            running(tmp_path / "batch", image_environment=given, sample_seconds=0.5) as service,
            impatient(service),
        ):
            keys = {"BATCH_ACCOUNT_NAME": service.account, "BATCH_ACCESS_KEY": service.key}
            given.update(keys)
            for name, value in keys.items():
                patch.setenv(name, value)
            yield Cloud(service, storage, project(tmp_path / "project"), disk)
    finally:
        shutil.rmtree(disk, ignore_errors=True)


def project(root: Path, files: Mapping[str, str] | None = None) -> Path:
    """Write a project of this one's code with entry points that do little."""
    for package in ("recsys", "experiments", "registry", "deploy"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, text in {"MLproject": MLPROJECT, "work.py": WORK, **(files or {})}.items():
        (root / name).write_text(text)
    return root
