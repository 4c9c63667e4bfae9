"""Spark's standalone master and workers as child processes of a task.

Both sides prove that they know the job's secret, and what they say is encrypted. The secret lies in
a file that only the task's user may read, never in a command line or an environment variable.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from recsys.errors import ClusterError

MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"
MASTER_ANSWERS_WITHIN = 60.0
DECOMMISSION_SECONDS = 20.0
SETTINGS = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    "spark.decommission.enabled": "true",
    "spark.master.rest.enabled": "false",
    "spark.ui.killEnabled": "false",
    # A worker's node is replaced within minutes: the driver goes on with those that are left.
    "spark.worker.timeout": "60",
}


def write_settings(folder: Path, secret: str, executor_memory: str | None = None) -> Path:
    """Write the settings that master, workers and session share; returns SPARK_CONF_DIR."""
    settings = SETTINGS | {"spark.authenticate.secret": secret}
    if executor_memory:
        settings["spark.executor.memory"] = executor_memory
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "spark-defaults.conf"
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as text:
        text.writelines(f"{name} {value}\n" for name, value in settings.items())
    return folder


def spark_class() -> str:
    """Return the script with which pyspark starts Spark's own programs."""
    found = importlib.util.find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise ClusterError("This node's environment lacks pyspark: correct pool.environment.")
    return str(Path(found.submodule_search_locations[0], "bin", "spark-class"))


class Master:
    """A running master.

    Attributes:
        url: spark://address:port.
        page: address of its page, which counts the workers.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, page: str) -> None:
        self.process, self.url, self.page = process, url, page

    @classmethod
    def start(cls, address: str, environment: Mapping[str, str], log: Path) -> "Master":
        """Start a master on free ports; raises ClusterError where it does not come up."""
        options = ["--host", address, "--port", "0", "--webui-port", "0"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [spark_class(), MASTER, *options],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + MASTER_ANSWERS_WITHIN
        while time.monotonic() < end and process.poll() is None:
            text = log.read_text(errors="replace")
            url = re.search(r"Starting Spark master at (spark://\S+)", text)
            page = re.search(r"MasterWebUI.* started at (http://\S+)", text)
            if url and page:
                return cls(process, url[1], page[1])
            time.sleep(0.2)
        stop(process)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise ClusterError(f"The Spark master did not start; the end of its log:\n{tail}")

    def workers(self) -> int:
        """Return how many workers have come, 0 where the master does not answer."""
        try:
            with urllib.request.urlopen(f"{self.page}/json/", timeout=5) as answer:
                return int(json.load(answer)["aliveworkers"])
        except (OSError, ValueError, KeyError):
            return 0


def start_worker(
    master: str, address: str, folder: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a worker that keeps its files in `folder`; its log is the task's."""
    options = ["--host", address, "--webui-port", "0", "--work-dir", str(folder)]
    return subprocess.Popen(
        [spark_class(), WORKER, *options, master],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def decommission(process: "subprocess.Popen[bytes]") -> None:
    """Let a worker hand its shuffle files on, then end it."""
    if process.poll() is None:
        process.send_signal(signal.SIGPWR)
        try:
            process.wait(DECOMMISSION_SECONDS)
        except subprocess.TimeoutExpired:
            stop(process)


def stop(process: "subprocess.Popen[bytes]", patience: float = 10.0) -> None:
    """End a child process, with force where it does not go."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
