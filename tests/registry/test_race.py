"""Many reviewers at once, as real processes: one winner a generation, and every loser is told.

RECSYS_ROUNDS sets how often they meet (200: a quarter of an hour and more for each store).
"""

import os
import random
import secrets
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from recsys import view
from recsys.errors import RegistryError
from recsys.tracking import EXPERIMENT
from registry.ledger import PROMOTE, ROLLBACK, VARIABLE, Generation, Ledger
from registry.promote import PromoteConfig, run_promote
from registry.releases import versions_of
from registry.trust import trusted
from tests import azurite, mlflow_server, postgres
from tests.registry.racers import (
    BROKE,
    ENTER,
    HELD,
    TOLD,
    WON,
    Outcome,
    Turn,
    at_its_next_call,
    decide,
    racing,
)
from tests.registry.shop import candidate

ROUNDS = int(os.environ.get("RECSYS_ROUNDS", "200"))
RULEBOOK = PromoteConfig(version=1).rulebook()
# A longer ledger takes longer to check; a new model name begins a new one.
NAME_LASTS = 25
# The observer is not to slow down what it looks at.
PAUSE, ASKED = 0.02, 5
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
        described()
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
        described()
        yield server.uri


def described() -> None:
    """Make the experiment and its note before all come at once."""
    view.describe_experiment(mlflow.set_experiment(EXPERIMENT).experiment_id)


@pytest.fixture(params=["disk", "azurite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the ledger lies."""
    place = str(tmp_path / "ledger")
    if request.param == "azurite":
        place = azurite.container(request.getfixturevalue("emulator"), monkeypatch) + "/ledger"
    monkeypatch.setenv(VARIABLE, place)
    return place


@dataclass
class Figures:
    """What came of a race, and what somebody saw who looked at it all the time.

    Attributes:
        kinds: kind of outcome → how many.
        looks: how often MLflow was asked who stands at Production.
        asked: how often it was asked who may score.
        wrong: what must not be seen.
        seconds: that the rounds took.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return f"{told}; {self.looks} looks, {self.asked} asked; {self.seconds:.0f} s"


@contextmanager
def observed(model_name: str, figures: Figures) -> Iterator[None]:
    """Look all the time, from another thread, who stands at Production and who may score."""
    done = threading.Event()

    def look() -> None:
        at = [v.version for v in versions_of(model_name) if v.current_stage == "Production"]
        figures.looks += 1
        if len(at) > 1:
            figures.wrong.append(f"{model_name}: versions {at} stand at Production")
        if at and figures.looks % ASKED == 0:
            trusted(model_name, "Production", RULEBOOK)
            figures.asked += 1

    def look_on() -> None:
        try:
            while not done.wait(PAUSE):
                look()
        except Exception:
            figures.wrong.append(traceback.format_exc())

    observer = threading.Thread(target=look_on)
    observer.start()
    try:
        yield
    finally:
        done.set()
        observer.join()
    assert figures.wrong == [], "\n".join(figures.wrong)


def together(model_name: str, number: int, reviewers: int) -> list[Turn]:
    """Let all promote, decided on the same head."""
    return [Turn(model_name, PROMOTE, meets=True)] * reviewers


def mixed(model_name: str, number: int, reviewers: int) -> list[Turn]:
    """Let each promote or roll back; every other round nobody waits for anybody."""
    chance, meets = random.Random(f"{model_name} {number}"), number % 2 == 0
    return [
        Turn(
            model_name,
            # There is nothing to go back to at first.
            chance.choice([PROMOTE, ROLLBACK]) if number % NAME_LASTS > 1 else PROMOTE,
            meets,
            0.0 if meets else chance.uniform(0, SPREAD),
        )
        for _ in range(reviewers)
    ]


def race(count: int, rounds: int, turns: Callable[[str, int, int], list[Turn]]) -> Figures:
    """Let reviewers decide at once again and again, and check each round.

    Args:
        count: of the reviewers.
        rounds: how often.
        turns: returns what each does, from the model's name, the round, and how many they are.
    """
    figures = Figures()
    with racing(count) as racers:
        for first in range(0, rounds, NAME_LASTS):
            model_name = f"race-{first // NAME_LASTS + 1}"
            entries = unbroken(decide(racers, [Turn(model_name, ENTER)] * count))
            versions = {entry.reviewer: entry.version for entry in entries}
            assert sorted(versions.values()) == list(range(1, count + 1))
            began = time.perf_counter()
            with observed(model_name, figures):
                for number in range(first, min(first + NAME_LASTS, rounds)):
                    before = Ledger(model_name, "Production").history()
                    taken = turns(model_name, number, count)
                    outcomes = unbroken(decide(racers, taken))
                    check(model_name, before, outcomes, versions)
                    kinds = Counter(outcome.kind for outcome in outcomes)
                    assert kinds[WON] <= 1 or not taken[0].meets
                    figures.kinds += kinds
            figures.seconds += time.perf_counter() - began
    print(f"\n{rounds} rounds of {count}: {figures}")
    return figures


def unbroken(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the outcomes; fails where somebody was told neither of a winner nor of a holder."""
    messages = [f"{o.reviewer}: {o.message}" for o in outcomes if o.kind == BROKE]
    assert not messages, "\n".join(messages)
    return outcomes


def check(
    model_name: str,
    before: Sequence[Generation],
    outcomes: Sequence[Outcome],
    versions: dict[str, int],
) -> None:
    """Check what a round has left in the ledger and in MLflow, and what each was told."""
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
    assert trusted(model_name, "Production", RULEBOOK).version == holder


def one_won_each(figures: Figures, count: int, rounds: int) -> bool:
    """Tell whether each round had one winner, and all others were told or held it before."""
    others = figures.kinds[TOLD] + figures.kinds[HELD]
    return figures.kinds[WON] == rounds and others == (count - 1) * rounds


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ledger", ["disk"], indirect=True)
def test_of_four_reviewers_at_once_one_wins(store: str, ledger: str) -> None:
    assert one_won_each(race(4, 3, together), 4, 3)


@pytest.mark.slow
def test_of_eight_reviewers_at_once_one_wins(store: str, ledger: str) -> None:
    assert one_won_each(race(8, ROUNDS, together), 8, ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "ledger"), [("sqlite", "disk"), ("postgresql", "azurite")], indirect=True
)
def test_promotions_and_rollbacks_at_once(store: str, ledger: str) -> None:
    figures = race(8, max(4, ROUNDS // 8), mixed)
    assert figures.kinds[WON] > 0


def test_a_loser_is_told_who_won_and_not_who_came_later(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [candidate(number) for number in (1, 2, 3)]

    def two_more() -> None:
        for name, version in zip(("bert", "carl"), versions[1:], strict=True):
            run_promote(PromoteConfig(version=version, reviewer=name, reason="wins"))

    at_its_next_call(monkeypatch, Ledger, "append", two_more)
    told = r"bert decided first: version 2 \(als\) promoted to Production, generation 1, .*\(wins\)"
    with pytest.raises(RegistryError, match=told):
        run_promote(PromoteConfig(version=versions[0], reviewer="anna"))
    assert [g.record.reviewer for g in Ledger("recommender", "Production").history()] == [
        "bert",
        "carl",
    ]
