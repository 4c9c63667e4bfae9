"""A process is told from another by host, number and beginning."""

import os
import subprocess
import sys

from recsys.drivers import driver, is_alive


def test_a_process_that_ended_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    host, _, began = driver().split()
    assert is_alive(driver())
    assert not is_alive(f"{host} {process.pid} {began}")
    assert not is_alive(f"{host} {os.getpid()} 1")
    assert not is_alive(f"elsewhere {os.getpid()} {began}")
    assert not is_alive("")
