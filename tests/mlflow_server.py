"""MLflow's own server, as a process of the tests."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 90.0


@contextmanager
def running(database: Path, artifacts: str) -> Iterator[str]:
    """Start a server on a free port of this machine.

    Args:
        database: SQLite file of the runs.
        artifacts: where artifacts lie; clients get at them through the server.

    Yields:
        Its address.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--allowed-hosts", host]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", artifacts]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = database.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | quiet,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://{host}/health", log)
        yield f"http://{host}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
    raise RuntimeError(f"MLflow's server does not answer:\n{log.read_text()[-2000:]}")
