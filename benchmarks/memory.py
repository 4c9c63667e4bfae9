"""Memory of a process and all that it started, sampled from /proc.

Proportional set size: a page that several processes map, such as a block file, counts once.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("driver", "jvm", "workers")


@dataclass
class Peaks:
    """Highest memory seen so far, in bytes: of each part, and of all together."""

    highest: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*PARTS, "all"), 0))

    def sample(self, root: int) -> None:
        """Look once at a process and its descendants."""
        now = dict.fromkeys(PARTS, 0)
        for pid, part in parts(root).items():
            now[part] += proportional(pid)
        now["all"] = sum(now.values())
        for name, value in now.items():
            self.highest[name] = max(self.highest[name], value)


def parts(root: int) -> dict[int, str]:
    """Return process → part: a JVM, the workers that a JVM started, the driver for all else."""
    children = defaultdict(list)
    for pid, parent in _parents(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
        children[parent].append(pid)
    found, waiting = {}, [(root, "driver")]
    while waiting:
        pid, part = waiting.pop()
        if part == "driver" and _name(pid) == "java":
            part = "jvm"
        found[pid] = part
        below = "workers" if part != "driver" else "driver"
        waiting += [(child, below) for child in children[pid]]
    return found


def proportional(pid: int) -> int:
    """Return a process's proportional set size in bytes, 0 where it has just ended."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def installed() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _parents(pids: Iterable[int]) -> list[tuple[int, int]]:
    """Return each process with its parent."""
    # The name, in brackets, may hold spaces; state and parent follow it.
    fields = [(pid, _read(pid, "stat").rpartition(")")[2].split()) for pid in pids]
    return [(pid, int(values[1])) for pid, values in fields if values]


def _name(pid: int) -> str:
    return _read(pid, "comm").strip()


def _read(pid: int, file: str) -> str:
    """Read a file of /proc, empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text("utf-8", errors="replace")
    except OSError:
        return ""
