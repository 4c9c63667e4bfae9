"""Many reviewers at once, as real processes: one winner a generation, and every loser is told.

RECSYS_ROUNDS sets how often they meet (200: a quarter of an hour and more for each store).
"""

import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from registry.ledger import PROMOTE, ROLLBACK, VARIABLE, Generation, Ledger
from registry.projection import moved
from registry.releases import versions_of
from tests import azurite, mlflow_server, postgres
from tests.registry.racers import (
    BROKE,
    ENTER,
    HELD,
    NOTHING,
    TOLD,
    WON,
    Outcome,
    Racer,
    Turn,
    decide,
    racing,
)

ROUNDS = int(os.environ.get("RECSYS_ROUNDS", "200"))
REVIEWERS = 8
# A longer ledger takes longer to check; a new model name begins a new one.
NAME_LASTS = 25
# The observer is not to slow down what it looks at.
PAUSE = 0.02
# Seconds over which those begin who do not meet: some decide while others show what they decided.
SPREAD = 3.0


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest,
    mlflow_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """MLflow on a SQLite file, or on a real server with several workers above PostgreSQL."""
    if request.param == "sqlite":
        yield mlflow_store
        return
    password = secrets.token_hex(12)
    with (
        postgres.running(tmp_path / "postgres") as backend,
        mlflow_server.team(tmp_path / "server", backend, password, "--workers", "3") as server,
    ):
        for name, value in server.environment(mlflow_server.ADMIN).items():
            monkeypatch.setenv(name, value)
        mlflow.set_tracking_uri(server.uri)
        yield server.uri


@pytest.fixture(params=["disk", "azurite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the ledger lies."""
    place = str(tmp_path / "ledger")
    if request.param == "azurite":
        place = azurite.container(request.getfixturevalue("emulator"), monkeypatch) + "/ledger"
    monkeypatch.setenv(VARIABLE, place)
    return place


@dataclass
class Seen:
    """What somebody saw who looked at MLflow all the time."""

    samples: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def observed(model_name: str, seen: Seen) -> Iterator[None]:
    """Count how often MLflow shows two versions at Production, from another thread."""
    done, failed = threading.Event(), list[BaseException]()

    def look() -> None:
        try:
            while not done.wait(PAUSE):
                at = [v.version for v in versions_of(model_name) if v.current_stage == "Production"]
                seen.samples += 1
                if len(at) > 1:
                    seen.wrong.append(f"{model_name}: versions {at} at Production")
        except BaseException as error:
            failed.append(error)

    observer = threading.Thread(target=look)
    observer.start()
    try:
        yield
    finally:
        done.set()
        observer.join()
    assert not failed


def race(racers: Sequence[Racer], rounds: int, pick: "Pick", name: str = "race") -> str:
    """Let reviewers decide at once again and again; returns the figures in words.

    Args:
        racers: who decide.
        rounds: how often.
        pick: returns the turns of a round.
        name: of the registered models, which get a number each.
    """
    kinds, seen, seconds, entered = Counter[str](), Seen(), 0.0, 0.0
    for first in range(0, rounds, NAME_LASTS):
        model_name, began = f"{name}-{first // NAME_LASTS + 1}", time.perf_counter()
        entries = decide(racers, [Turn(model_name, ENTER)] * len(racers))
        versions = {entry.reviewer: entry.version for entry in entries}
        assert sorted(versions.values()) == list(range(1, len(racers) + 1)), entries
        entered += time.perf_counter() - began
        began = time.perf_counter()
        with observed(model_name, seen):
            for number in range(first, min(first + NAME_LASTS, rounds)):
                before = Ledger(model_name, "Production").history()
                outcomes = decide(racers, pick(model_name, number))
                check(model_name, before, outcomes, versions)
                kinds.update(outcome.kind for outcome in outcomes)
        seconds += time.perf_counter() - began
        assert seen.wrong == []
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in (WON, TOLD, HELD, NOTHING))
    return (
        f"{rounds} rounds of {len(racers)} in {seconds:.0f} s ({seconds / rounds:.2f} s each, "
        f"and {entered:.0f} s to enter): {told}; {seen.samples} looks at MLflow"
    )


def check(
    model_name: str,
    before: Sequence[Generation],
    outcomes: Sequence[Outcome],
    versions: dict[str, int],
) -> None:
    """Check what a round has left in the ledger and in MLflow, and what each was told."""
    assert [outcome.message for outcome in outcomes if outcome.kind == BROKE] == []
    after = Ledger(model_name, "Production").history()
    assert after[: len(before)] == list(before)
    new = {generation.number: generation for generation in after[len(before) :]}
    winners = {outcome.generation: outcome for outcome in outcomes if outcome.kind == WON}
    assert len(winners) == sum(outcome.kind == WON for outcome in outcomes)
    assert {n: (g.record.reviewer, g.record.action) for n, g in new.items()} == {
        n: (outcome.reviewer, outcome.action) for n, outcome in winners.items()
    }
    held = {g.number: g.record.version for g in [*before[-1:], *new.values()]}
    for outcome in outcomes:
        if outcome.kind == TOLD:
            assert new[outcome.generation].record.reviewer == outcome.winner != outcome.reviewer
        elif outcome.kind == HELD:
            assert held[outcome.generation] == outcome.version == versions[outcome.reviewer]
    for one, two in pairwise(after):
        assert two.record.predecessor == one.digest
    if after:
        shows_the_ledger(model_name, after[-1])


def shows_the_ledger(model_name: str, head: Generation) -> None:
    """Check that MLflow shows the holder, and nobody else."""
    holder = head.record.version
    at = [int(v.version) for v in versions_of(model_name) if v.current_stage == "Production"]
    assert at == [holder]
    alias = MlflowClient().get_model_version_by_alias(model_name, "production")
    assert int(alias.version) == holder
    assert moved(model_name) == []


class Pick:
    """The turns of a round: all promote, or each does what chance says."""

    def __init__(self, reviewers: int, *, mixed: bool = False) -> None:
        self.reviewers, self.mixed, self.chance = reviewers, mixed, random.Random(8)

    def __call__(self, model_name: str, number: int) -> list[Turn]:
        actions = [PROMOTE] * self.reviewers
        if self.mixed and number % NAME_LASTS > 1:
            actions = self.chance.choices([PROMOTE, ROLLBACK], k=self.reviewers)
        meets = not self.mixed or number % 2 == 0
        pauses = [0.0 if meets else self.chance.uniform(0, SPREAD) for _ in actions]
        return [
            Turn(model_name, action, meets, pause)
            for action, pause in zip(actions, pauses, strict=True)
        ]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ledger", ["disk"], indirect=True)
def test_of_four_reviewers_at_once_one_wins(store: str, ledger: str) -> None:
    with racing(4) as racers:
        print(race(racers, 3, Pick(4)))


@pytest.mark.slow
def test_of_eight_reviewers_at_once_one_wins(store: str, ledger: str) -> None:
    with racing(REVIEWERS) as racers:
        print(race(racers, ROUNDS, Pick(REVIEWERS)))


@pytest.mark.slow
def test_promotions_and_rollbacks_at_once(store: str, ledger: str) -> None:
    with racing(REVIEWERS) as racers:
        print(race(racers, max(4, ROUNDS // 8), Pick(REVIEWERS, mixed=True), "mix"))
