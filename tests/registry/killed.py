"""Decisions as processes of their own, which kill themselves at a named step.

The processes are forked from one that has imported all, so that each takes no seconds to start.
"""

import importlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import mlflow

from registry.promote import PromoteConfig, run_promote
from registry.rollback import RollbackConfig, run_rollback

BEFORE, AFTER = "before", "after"
# What a decision reads of its surroundings; the process that forks has those of its own start.
SURROUNDINGS = ("MLFLOW_", "RECSYS_", "AZUR")


@dataclass(frozen=True)
class Kill:
    """Where a process kills itself.

    Attributes:
        when: BEFORE or AFTER a call.
        target: `module:name` or `module:class.name` of what is called.
        call: which call, from 1.
        naming: part of what its arguments say; other calls do not count.
    """

    when: str
    target: str
    call: int = 1
    naming: str = ""


def warm() -> None:
    """Let the process that forks begin to import."""
    _context()
    forkserver.ensure_running()


def start(config: PromoteConfig | RollbackConfig, log: Path, at: Kill | None) -> ForkServerProcess:
    """Start a decision in this process's MLflow store and ledger.

    Args:
        config: what to decide.
        log: file for what it prints.
        at: where it kills itself; None for a decision that is left alone, or killed from outside.
    """
    surroundings = {n: v for n, v in os.environ.items() if n.startswith(SURROUNDINGS)}
    surroundings |= {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "TMPDIR": str(log.parent)}
    process = _context().Process(target=_decide, args=(config, log, at, surroundings))
    process.start()
    return process


def ended(process: ForkServerProcess, log: Path) -> int:
    """Wait for a process's end; returns its exit code, a signal's below zero."""
    process.join(120)
    assert process.exitcode is not None, log.read_text()
    return process.exitcode


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _decide(
    config: PromoteConfig | RollbackConfig, log: Path, at: Kill | None, surroundings: dict[str, str]
) -> None:
    """Run in the new process."""
    with log.open("ab") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    for name in [n for n in os.environ if n.startswith(SURROUNDINGS)]:
        del os.environ[name]
    os.environ.update(surroundings)
    tempfile.tempdir = None
    if at is not None:
        _arm(at)
    if isinstance(config, PromoteConfig):
        run_promote(config)
    else:
        run_rollback(config)


def _arm(at: Kill) -> None:
    """Replace one function by one that does the same, and kills the process at its time."""
    module, _, path = at.target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, _killing(getattr(owner, name), at))


def _killing(original: Callable[..., Any], at: Kill) -> Callable[..., Any]:
    calls = 0

    def call(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += at.naming in f"{given}{named}"
        meant = calls == at.call
        if meant and at.when == BEFORE:
            _die()
        result = original(*given, **named)
        if meant:
            _die()
        return result

    return call


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
