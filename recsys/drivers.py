"""Which process is at work on a run, so that another can tell a killed one from a busy one."""

import os
from pathlib import Path

DRIVER_TAG = "recsys.driver"


def driver() -> str:
    """Name this process: host, number, and when it began, because numbers come again."""
    return f"{os.uname().nodename} {os.getpid()} {_began(os.getpid())}"


def is_alive(name: str) -> bool:
    """Tell whether a process that `driver` named is still there; one of another host is not."""
    host, _, rest = name.partition(" ")
    number, _, began = rest.partition(" ")
    return host == os.uname().nodename and number.isdigit() and _began(int(number)) == began != ""


def _began(process: int) -> str:
    """Return when a process began, in ticks since the system did; empty where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
