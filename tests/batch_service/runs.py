"""One execution of a start task or a task on a node: files, process, exit code."""

import shlex
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.batch_service import processes
from tests.batch_service.processes import Disk
from tests.batch_service.wire import Body

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MESSAGES = {
    "BlobNotFound": "One of the specified Azure Blob(s) is not found",
    "BlobAccessDenied": "Access for one of the specified Azure Blob(s) is denied",
    "BlobDownloadMiscError": (
        "Miscellaneous error encountered while downloading one of the specified Azure Blob(s)"
    ),
    "CommandProgramNotFound": "The specified command program is not found",
    "CommandLaunchFailed": "Failed to launch the specified command line",
    "FailureExitCode": "The task exited with an exit code representing a failure",
    "TaskEnded": "Task Was Ended by User Request",
}
# Downloads must not go through a proxy of the machine that runs the service.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Outcome:
    """How a run ended; without a code where nothing was started."""

    code: int | None = None
    failure: Body | None = None


def failure(code: str, category: str = "usererror", **details: str) -> Body:
    """Return a `failureInfo`."""
    body: Body = {"category": category, "code": code, "message": MESSAGES[code]}
    if details:
        body["details"] = [{"name": name, "value": value} for name, value in details.items()]
    return body


class Run(threading.Thread):
    """Runs a command on a node and tells what came of it, unless it was cancelled.

    Args:
        disk: of the node.
        folder: of the task below the node's root: `wd`, stdout.txt and stderr.txt go there.
        spec: body of the task: command line, resource files.
        environment: of the process.
        marker: the part of the environment that tells this run's processes from all others.
        ended: called in this thread.
    """

    def __init__(
        self,
        disk: Disk,
        folder: str,
        spec: Body,
        environment: dict[str, str],
        marker: dict[str, str],
        ended: Callable[["Run", Outcome], None],
    ) -> None:
        super().__init__(daemon=True, name=f"run of {folder}")
        self.disk = disk
        self.folder = folder
        self.spec = spec
        self.environment = {
            "PATH": PATH,
            "HOME": f"{disk.root}/{folder}/wd",
            "USER": "_azbatch",
            "LANG": "C.UTF-8",
            **environment,
        }
        self.marker = marker
        self.ended = ended
        self.cancelled = False
        self._gate = threading.Lock()

    @property
    def here(self) -> Path:
        """The task's folder on this machine."""
        return self.disk.tasks / self.folder

    def run(self) -> None:
        """Fetch the files, run the command, report."""
        try:
            outcome = self._outcome()
        except OSError as error:
            # The disk is wiped under a cancelled run.
            outcome = Outcome(failure=failure("CommandLaunchFailed", Message=str(error)))
        if not self.cancelled:
            self.ended(self, outcome)

    def cancel(self) -> None:
        """Kill what runs, at once and with all descendants; nothing is reported."""
        with self._gate:
            self.cancelled = True
        processes.kill(self.marker)

    def _outcome(self) -> Outcome:
        work = self.here / "wd"
        work.mkdir(parents=True, exist_ok=True)
        for name in ("stdout.txt", "stderr.txt"):
            (self.here / name).touch()
        for file in self.spec.get("resourceFiles", []):
            failed = _fetch(file, work)
            if failed:
                return Outcome(failure=failed)
        words = shlex.split(self.spec["commandLine"])
        if not self._is_program(words[0]):
            return Outcome(failure=failure("CommandProgramNotFound", Program=words[0]))
        return self._execute(words)

    def _is_program(self, word: str) -> bool:
        if "/" not in word:
            return shutil.which(word, path=self.environment["PATH"]) is not None
        inside = f"{self.disk.root}/{self.folder}/wd/{word}" if word[0] != "/" else word
        return self.disk.here(inside).exists()

    def _execute(self, words: list[str]) -> Outcome:
        with self._gate:
            if self.cancelled:
                return Outcome()
            folder = f"{self.disk.root}/{self.folder}/wd"
            process = processes.start(self.disk, folder, words, self.environment, self.here)
        code = process.wait()
        if not self.cancelled:
            # What the command left behind ends with it.
            processes.kill(self.marker)
        code = 128 - code if code < 0 else code
        return Outcome(code, failure("FailureExitCode") if code else None)


def _fetch(file: Body, folder: Path) -> Body | None:
    """Download one resource file; returns the failure, None where it worked."""
    url = file["httpUrl"]
    name = file.get("filePath") or PurePosixPath(url.split("?")[0]).name
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return failure("BlobDownloadMiscError", FilePath=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _opener.open(url, timeout=60) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    except urllib.error.HTTPError as error:
        code = {404: "BlobNotFound", 403: "BlobAccessDenied"}.get(error.code)
        if code:
            return failure(code, FilePath=name)
        return failure("BlobDownloadMiscError", "servererror", FilePath=name, Message=str(error))
    except (OSError, ValueError) as error:
        return failure("BlobDownloadMiscError", "servererror", FilePath=name, Message=str(error))
    path.chmod(int(file.get("fileMode", "0770"), 8))
    return None
