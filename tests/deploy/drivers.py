"""Batch runs as processes of their own, to be watched and killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import mlflow

ROOT = Path(__file__).resolve().parent.parent.parent
K = 5
BATCH_SCORE = ("-m", "deploy.batch_score")

Driver = subprocess.Popen[str]


def start(
    interactions: Path,
    output: str | Path,
    slot: str,
    program: Sequence[str] = BATCH_SCORE,
    **environment: str,
) -> Driver:
    """Start a batch run in this process's MLflow store.

    Args:
        interactions: folder that ingest wrote.
        output: folder or URL to publish to.
        slot: that it publishes.
        program: how Python is called.
        environment: variables beside this process's own.
    """
    options = {"interactions": interactions, "output": output, "slot": slot, "k": K}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return Driver(
        [sys.executable, *program, *words],
        cwd=ROOT,
        env=os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(driver: Driver) -> None:
    """Kill the driver alone, as the system does; its JVM and workers find out by themselves."""
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def clean(driver: Driver) -> None:
    """Kill whatever a driver that has ended left running."""
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    if driver.stdout is not None:
        driver.stdout.close()


def ended(driver: Driver) -> str:
    """Wait for a run's end, which must be a good one; returns what it printed."""
    try:
        text, _ = driver.communicate(timeout=240)
    finally:
        clean(driver)
    assert driver.returncode == 0, text[-3000:]
    return text
