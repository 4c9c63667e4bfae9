import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks import memory
from benchmarks.memory import Peaks

MEBIBYTE = 2**20
# Holds 64 MiB, starts a child that holds 32 MiB, says so, and waits for the end of its input.
CHILD = "held = b'x' * (32 * 2**20); print('ready', flush=True); input()"
PARENT = f"""
import subprocess, sys
held = b"x" * (64 * 2**20)
subprocess.run([sys.executable, "-c", {CHILD!r}])
"""


@pytest.fixture
def family() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"
    yield process
    if process.poll() is None:
        process.communicate("\n")


def test_a_process_and_its_children_are_added_up(family: "subprocess.Popen[str]") -> None:
    peaks = Peaks()
    peaks.sample(family.pid)

    assert 96 * MEBIBYTE < peaks.highest["driver"] < 200 * MEBIBYTE
    assert peaks.highest["all"] == peaks.highest["driver"]
    assert peaks.highest["jvm"] == peaks.highest["workers"] == 0


def test_peaks_never_fall(family: "subprocess.Popen[str]") -> None:
    peaks = Peaks()
    peaks.sample(family.pid)
    before = dict(peaks.highest)
    family.communicate("\n")
    peaks.sample(family.pid)

    assert peaks.highest == before


def test_what_a_jvm_starts_is_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = [(2, 1), (3, 2), (4, 3), (5, 4), (6, 1), (7, 99)]
    names = {3: "java"}
    monkeypatch.setattr(memory, "_parents", lambda pids: parents)
    monkeypatch.setattr(memory, "_name", lambda pid: names.get(pid, "python"))

    assert memory.parts(1) == {
        1: "driver", 2: "driver", 3: "jvm", 4: "workers", 5: "workers", 6: "driver"
    }  # fmt: skip


def test_a_process_that_has_ended_takes_no_memory() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert memory.proportional(process.pid) == 0
    assert memory.proportional(os.getpid()) > 0
