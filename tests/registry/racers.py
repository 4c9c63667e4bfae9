"""Reviewers who decide at once: processes that live through all rounds, and what each was told."""

import multiprocessing
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from recsys import tracking
from recsys.errors import RecsysError, RegistryError, UsageError
from registry.ledger import PROMOTE, Generation, Ledger, Record
from registry.promote import PromoteConfig, run_promote
from registry.releases import candidates_of, find_version, released, to_release, verified_model
from registry.rollback import RollbackConfig, run_rollback
from tests.registry.shop import candidate

ENTER = "enter"
WON, HELD, TOLD, NOTHING, BROKE = "won", "held", "told", "nothing to go back to", "broke"
PATIENCE = 600.0


@dataclass(frozen=True)
class Turn:
    """What a reviewer is to do.

    Attributes:
        model_name: the registered model of the releases.
        action: ENTER (make a candidate and its release), PROMOTE or ROLLBACK.
        meets: wait for the others right before the ledger, so that all decide on the same head.
        pause: seconds to wait first, so that one begins while others are at any step.
    """

    model_name: str
    action: str
    meets: bool = False
    pause: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a turn.

    Attributes:
        reviewer: whose turn it was.
        action: that was asked for.
        kind: WON, HELD, TOLD, NOTHING or BROKE.
        generation: that was won or held, or that the winner who is named has.
        version: of the release that was returned.
        winner: the reviewer who is named as first; empty unless TOLD.
        message: what went wrong.
    """

    reviewer: str
    action: str
    kind: str
    generation: int = 0
    version: int = 0
    winner: str = ""
    message: str = ""


@dataclass(frozen=True)
class Racer:
    """A reviewer of a process of its own."""

    name: str
    process: BaseProcess
    line: Connection

    def answer(self) -> Outcome | None:
        """Return the outcome; None where the reviewer has decided and waits for the others."""
        if not self.line.poll(PATIENCE):
            raise TimeoutError(f"{self.name} does not answer")
        answered: Outcome | None = self.line.recv()
        return answered


@contextmanager
def racing(count: int) -> Iterator[list[Racer]]:
    """Start reviewers, who live until the block ends."""
    context = multiprocessing.get_context("forkserver")
    # All that they need takes seconds to import, and once is enough.
    context.set_forkserver_preload([__name__])
    # MLflow has put there which experiment is this process's own.
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_EXPERIMENT_ID"}
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    racers = list[Racer]()
    try:
        for number in range(1, count + 1):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=_live, args=(number, theirs, environment))
            process.start()
            theirs.close()
            racers.append(Racer(_name(number), process, ours))
        yield racers
    finally:
        for racer in racers:
            # At the end of the line they leave by themselves.
            racer.line.close()
            racer.process.join(10)
            if racer.process.is_alive():
                racer.process.kill()
                racer.process.join()


def decide(racers: Sequence[Racer], turns: Sequence[Turn]) -> list[Outcome]:
    """Let all take their turns at once."""
    for racer, turn in zip(racers, turns, strict=True):
        racer.line.send(turn)
    first = [racer.answer() for racer in racers]
    for racer, answer in zip(racers, first, strict=True):
        if answer is None:
            racer.line.send(None)
    outcomes = (answer or racer.answer() for racer, answer in zip(racers, first, strict=True))
    return [outcome for outcome in outcomes if outcome]


def at_its_next_call(
    monkeypatch: pytest.MonkeyPatch, holder: object, name: str, do: Callable[[], object]
) -> None:
    """Let something happen right before a function does its work, once."""
    original = getattr(holder, name)

    def late(*given: object, **more: object) -> object:
        monkeypatch.setattr(holder, name, original)
        do()
        return original(*given, **more)

    monkeypatch.setattr(holder, name, late)


def _name(number: int) -> str:
    return f"reviewer-{number}"


def _live(number: int, line: Connection, environment: Mapping[str, str]) -> None:
    """Take one turn after the other until the line is closed."""
    os.environ.clear()
    os.environ.update(environment)
    own, wins = dict[str, int](), list[Generation]()
    append = Ledger.append

    def watched(ledger: Ledger, record: Record, after: Generation | None) -> Generation:
        if turn.meets:
            line.send(None)
            line.recv()
        wins.append(append(ledger, record, after))
        return wins[-1]

    Ledger.append = watched  # type: ignore[assignment, method-assign]
    with suppress(EOFError), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        while True:
            turn: Turn = line.recv()
            wins.clear()
            time.sleep(turn.pause)
            try:
                line.send(_taken(turn, number, own, wins))
            except Exception:
                told = traceback.format_exc()
                line.send(Outcome(_name(number), turn.action, BROKE, message=told))


def _taken(turn: Turn, number: int, own: dict[str, int], wins: Sequence[Generation]) -> Outcome:
    """Do what a turn asks for."""
    name, model_name = _name(number), turn.model_name
    if turn.action == ENTER:
        own[model_name] = candidate(number, model_name)
        entered = find_version(candidates_of(model_name), own[model_name])
        with (
            tracking.step_run("release", "release", {}),
            verified_model(to_release(entered)) as folder,
        ):
            release = released(entered, model_name, folder)
        return Outcome(name, turn.action, HELD, version=release.version)
    try:
        if turn.action == PROMOTE:
            given = {"version": own[model_name], "reason": f"{name} wins"}
            config = PromoteConfig(model_name=model_name, reviewer=name, **given)
            release = run_promote(config)
        else:
            release = run_rollback(
                RollbackConfig(model_name=model_name, reviewer=name, reason="sales fell")
            )
    except RecsysError as error:
        return _refused(name, turn.action, error)
    kind, generation = (WON, wins[0].number) if wins else (HELD, release.generation)
    return Outcome(name, turn.action, kind, generation, release.version)


def _refused(name: str, action: str, error: RecsysError) -> Outcome:
    """Read what the loser of a race was told."""
    message = str(error)
    if isinstance(error, UsageError) and NOTHING in message.replace("there is ", ""):
        return Outcome(name, action, NOTHING, message=message)
    first = re.match(r"(\S+) decided first: .*, generation (\d+), at ", message)
    if not isinstance(error, RegistryError) or first is None:
        return Outcome(name, action, BROKE, message=message)
    return Outcome(name, action, TOLD, int(first[2]), winner=first[1], message=message)
