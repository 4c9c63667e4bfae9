"""What is made in MLflow is made once, though answers get lost."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED

from recsys import once
from recsys.once import ATTEMPTS, REQUEST_TAG, RETRIES, experiment_named, made, run_of


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "PAUSE", 0.0)


class Shelf:
    """A server's shelf, whose answers get lost as often as it is told."""

    def __init__(self, lost: int = 0, error: int = INTERNAL_ERROR) -> None:
        self.lost, self.error = lost, error
        self.things: list[int] = []

    def look_up(self) -> int | None:
        return self.things[0] if self.things else None

    def make(self) -> int:
        """Make a thing, and say so where the answer is not lost."""
        self.things.append(len(self.things))
        if len(self.things) <= self.lost:
            raise MlflowException("the answer is lost", self.error)
        return self.things[-1]


def losing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method do its work, but lose its first answer."""
    calls = list[int]()

    def call(*args: Any, **kwargs: Any) -> Any:
        found = method(*args, **kwargs)
        calls.append(1)
        if len(calls) == 1:
            raise MlflowException("API request failed with exception: connection reset")
        return found

    return call


def test_what_is_there_is_not_made_again() -> None:
    shelf = Shelf()
    assert [made(shelf.look_up, shelf.make) for _ in range(2)] == [0, 0]
    assert shelf.things == [0]


def test_after_a_lost_answer_what_was_made_is_found() -> None:
    shelf = Shelf(lost=1)
    assert made(shelf.look_up, shelf.make) == 0
    assert shelf.things == [0]


def test_a_server_that_never_answers_is_given_up() -> None:
    shelf = Shelf(lost=ATTEMPTS)
    with pytest.raises(MlflowException, match="the answer is lost"):
        made(lambda: None, shelf.make)
    assert len(shelf.things) == ATTEMPTS


def test_a_servers_no_is_not_asked_again() -> None:
    shelf = Shelf(lost=1, error=PERMISSION_DENIED)
    with pytest.raises(MlflowException):
        made(lambda: None, shelf.make)
    assert len(shelf.things) == 1


@pytest.mark.parametrize("before", [None, "3"])
def test_only_what_makes_is_asked_once(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    if before is not None:
        monkeypatch.setenv(RETRIES, before)
    seen = list[str | None]()

    def look_up() -> str | None:
        seen.append(os.environ.get(RETRIES))
        return None

    def make() -> str:
        seen.append(os.environ.get(RETRIES))
        return "made"

    made(look_up, make)
    assert [*seen, os.environ.get(RETRIES)] == [before, "0", before]


def test_threads_leave_the_setting_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, "3")
    inside, left = Event(), Event()

    def second() -> bool:
        inside.set()
        return left.wait(10)

    with ThreadPoolExecutor(1) as pool:

        def first() -> bool:
            pool.submit(made, lambda: None, second)
            # The second one may not come in before the first one has left.
            return inside.wait(0.3)

        assert not made(lambda: None, first)
        left.set()
    assert inside.is_set()
    assert os.environ[RETRIES] == "3"


def test_a_request_has_one_run(mlflow_store: str) -> None:
    first = run_of("1", "request", "first", {"kind": "test"})
    again = run_of("1", "request", "again", {})
    other = run_of("1", "another", "other", {})
    assert first.info.run_id == again.info.run_id != other.info.run_id
    assert first.info.run_name == again.info.run_name == "first"
    assert (first.data.tags["kind"], first.data.tags[REQUEST_TAG]) == ("test", "request")
    assert first.info.user_id not in ("", "unknown")


def test_a_run_whose_answer_was_lost_is_found(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "create_run", losing(MlflowClient.create_run))
    found = run_of("1", "request", "run", {})
    (only,) = MlflowClient().search_runs(["1"])
    assert found.info.run_id == only.info.run_id


def test_of_two_runs_of_a_request_the_oldest_counts(mlflow_store: str) -> None:
    """Two processes that ask at one moment both make one."""
    client = MlflowClient()
    runs = [client.create_run("1", at, {REQUEST_TAG: "request"}) for at in (2000, 1000)]
    assert run_of("1", "request", "run", {}).info.run_id == runs[1].info.run_id


def test_an_experiment_is_made_where_it_is_missing(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "create_experiment", losing(MlflowClient.create_experiment))
    made_first = experiment_named("new")
    assert experiment_named("new") == made_first
    assert experiment_named("recsys") == "1"


def test_an_experiment_may_be_made_by_somebody_else_meanwhile(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = MlflowClient.create_experiment

    def overtaken(client: MlflowClient, name: str) -> str:
        create(client, name)
        return create(client, name)

    monkeypatch.setattr(MlflowClient, "create_experiment", overtaken)
    found = MlflowClient().get_experiment_by_name
    assert found("new") is None
    number = experiment_named("new")
    assert getattr(found("new"), "experiment_id", None) == number


def test_an_experiment_that_cannot_be_made_says_why(mlflow_store: str) -> None:
    with pytest.raises(MlflowException, match="Invalid experiment name"):
        experiment_named("")
