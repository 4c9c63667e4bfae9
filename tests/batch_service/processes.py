"""A node's disk and processes: a mount and a process namespace for each task where allowed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Where real nodes have their disk.
ROOT = "/mnt/batch/tasks"
# Every node has it, also where the checkout lies below the /tmp that nodes do not see.
ENVIRONMENT = Path(sys.prefix)
KEPT = 'mkdir -p "$2/{0}" && mount --bind "/tmp/{0}" "$2/{0}" && '
# The task must not be process 1 of its namespace: that one has no default signal handlers.
SCRIPT = (
    f'mount --bind "$1" {ROOT} && mount --rbind "$2" /tmp && mount -t proc proc /proc '
    '&& cd "$3" || exit 125; shift 3; "$@"; exit $?'
)
GONE = 20.0


@dataclass(frozen=True)
class Disk:
    """A node's disk.

    Attributes:
        folder: where it lies on this machine.
        isolated: whether the node's processes see only their own, at ROOT, with a /tmp of
            their own.
    """

    folder: Path
    isolated: bool

    @property
    def tasks(self) -> Path:
        """The node's root directory as this machine sees it."""
        return self.folder / "tasks"

    @property
    def root(self) -> str:
        """The node's root directory as its processes see it."""
        return ROOT if self.isolated else str(self.tasks)

    def here(self, path: str) -> Path:
        """Return what a path of the node is on this machine."""
        inside = Path(path)
        for seen, real in ((ROOT, self.tasks), ("/tmp", self.folder / "tmp")):
            if self.isolated and inside.is_relative_to(seen):
                return real / inside.relative_to(seen)
        return inside

    def wipe(self) -> None:
        """Empty the disk, as a new machine has it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("tasks/shared", "tasks/startup/wd", "tasks/workitems", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").chmod(0o1777)


def can_isolate() -> bool:
    """Tell whether this process may give its children namespaces of their own."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return False
    Path(ROOT).mkdir(parents=True, exist_ok=True)
    probe = _namespaces("mount -t proc proc /proc", [])
    return subprocess.run(probe, capture_output=True).returncode == 0


def start(
    disk: Disk, folder: str, words: list[str], environment: dict[str, str], output: Path
) -> "subprocess.Popen[bytes]":
    """Start a process of a node; the calling thread must wait for it.

    Args:
        disk: of the node.
        folder: working directory, as the node sees it.
        words: the command.
        environment: all of it.
        output: folder on this machine for stdout.txt and stderr.txt.
    """
    if disk.isolated:
        below = ENVIRONMENT.is_relative_to("/tmp")
        script = KEPT.format(ENVIRONMENT.relative_to("/tmp")) + SCRIPT if below else SCRIPT
        words = _namespaces(script, [str(disk.tasks), str(disk.folder / "tmp"), folder, *words])
    with (output / "stdout.txt").open("wb") as out, (output / "stderr.txt").open("wb") as err:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=None if disk.isolated else folder,
            start_new_session=True,
        )


def _namespaces(script: str, words: list[str]) -> list[str]:
    """Return a command in new mount and process namespaces.

    They die with their first process, that with `unshare`, and that with the thread that waits
    for it, so that nothing outlives the service, however it ends.
    """
    kill = [shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL"]
    unshare = [shutil.which("unshare") or "unshare", "-m", "-p", "-f", "--kill-child"]
    return [*kill, *unshare, shutil.which("sh") or "sh", "-c", script, "node", *words]


def found(marker: dict[str, str]) -> list[int]:
    """Return the processes whose environment holds all these values; "" stands for any."""
    words = [f"{name}={value}".encode() for name, value in marker.items()]
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parts = (entry / "environ").read_bytes().split(b"\0")
            if all(any(_fits(part, word) for part in parts) for word in words):
                processes.append(int(entry.name))
    return [process for process in processes if process != os.getpid()]


def _fits(part: bytes, word: bytes) -> bool:
    return part.startswith(word) if word.endswith(b"=") else part == word


def kill(marker: dict[str, str]) -> None:
    """Kill all processes with this marker and see that they are gone; raises RuntimeError."""
    until = time.monotonic() + GONE
    while processes := found(marker):
        if time.monotonic() > until:
            raise RuntimeError(f"processes {processes} cannot be killed")
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
