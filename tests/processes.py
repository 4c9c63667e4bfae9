"""Processes that a test looks for."""

import os
from contextlib import suppress
from pathlib import Path

EXECUTOR = "CoarseGrainedExecutorBackend"


def executors(session: int) -> list[int]:
    """Return the Spark executors' process ids in the session of processes that a driver leads."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if EXECUTOR in command and os.getsid(int(folder.name)) == session:
                found.append(int(folder.name))
    return found
