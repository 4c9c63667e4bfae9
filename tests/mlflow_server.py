"""MLflow's own server, as a process of the tests: open, or with accounts and roles."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

from deploy.server.__main__ import main
from deploy.server.start import ACCOUNTS, ADMIN_PASSWORD, BACKEND

PATIENCE = 90.0
ADMIN = "admin"
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True)
class TeamServer:
    """A server with accounts.

    Attributes:
        uri: its address.
        home: the folder of its own files.
        log: what it and its start have said.
        pid: of the process that leads it.
        passwords: account → password; the admin's is there from the start.
    """

    uri: str
    home: Path
    log: Path
    pid: int
    passwords: dict[str, str] = field(repr=False)

    def environment(self, account: str) -> dict[str, str]:
        """Return the variables of a client that is this account's."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": account,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[account],
        }

    def tell(self, *words: str, by: str = ADMIN) -> str:
        """Run `python -m deploy.server`'s `roles` or `password` in this process.

        Args:
            words: the verb and its options.
            by: whose command it is.

        Returns:
            What it said; new passwords are kept.
        """
        file, said = self.home / f"passwords-{uuid.uuid4().hex}", StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
            for name, value in self.environment(by).items():
                patch.setenv(name, value)
            main([*words, "--passwords", str(file)])
        lines = file.read_text().splitlines() if file.exists() else []
        self.passwords.update((line.split(": ")[0], line.split(": ")[1]) for line in lines)
        return said.getvalue()


@contextmanager
def running(database: Path, artifacts: str) -> Iterator[str]:
    """Start a server on a free port of this machine, which everybody may use.

    Args:
        database: SQLite file of the runs.
        artifacts: where artifacts lie; clients get at them through the server.

    Yields:
        Its address.
    """
    port = free_port()
    host = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--allowed-hosts", host]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", artifacts]
    with _process(command, QUIET, f"http://{host}", database.with_suffix(".log")):
        yield f"http://{host}"


@contextmanager
def team(home: Path, backend: str, password: str, *options: str) -> Iterator[TeamServer]:
    """Start a server with accounts on a free port of this machine, by `python -m deploy.server`.

    Args:
        home: the folder of its own files, made where it is missing.
        backend: address of the database; empty for SQLite in its home.
        password: of the admin; empty where one is kept from before.
        options: more of `start`'s.

    Yields:
        The server, with no account but the admin's.
    """
    uri = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "deploy.server", "start", "--home", str(home)]
    command += ["--port", str(port), "--workers", "1", *options]
    log = home.with_suffix(".log")
    variables = {BACKEND: backend, ACCOUNTS: "", ADMIN_PASSWORD: password}
    with _process(command, variables, uri, log) as process:
        yield TeamServer(uri, home, log, process.pid, {ADMIN: password})


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _process(
    command: list[str], variables: Mapping[str, str], uri: str, log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, f"{uri}/health", log)
        yield process
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
