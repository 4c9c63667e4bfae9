"""What MLflow shows of the ledger, while somebody else decides at the same moment."""

import threading
import time
from functools import partial

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from recsys.errors import RegistryError
from registry import projection
from registry.ledger import Generation, Ledger
from registry.promote import PromoteConfig, run_promote
from registry.trust import trusted
from tests.registry.racers import at_its_next_call
from tests.registry.shop import candidate

RULEBOOK = PromoteConfig(version=1).rulebook()


def head() -> Generation:
    return Ledger("recommender", "Production").history()[-1]


def shown() -> str:
    model = MlflowClient().get_registered_model("recommender")
    return str(model.tags["recsys.shown.Production"]).partition(" ")[0]


@pytest.mark.parametrize("step", ["_model", "_stages_shown", "ledgers_of"])
def test_a_decision_of_this_moment_is_no_hand_at_work(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first, second = (candidate(number) for number in (1, 2))
    run_promote(PromoteConfig(version=first))
    promote = partial(run_promote, PromoteConfig(version=second))
    at_its_next_call(monkeypatch, projection, step, promote)
    assert projection.moved("recommender") == []
    assert trusted("recommender", "Production", RULEBOOK).generation == 2


def test_a_tag_that_two_write_at_once_is_no_failure(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise MlflowException("UNIQUE constraint failed", BAD_REQUEST)

    version = candidate(1)
    at_its_next_call(monkeypatch, MlflowClient, "set_model_version_tag", refuse)
    run_promote(PromoteConfig(version=version))
    assert (shown(), projection.moved("recommender")) == ("1", [])


@pytest.mark.parametrize(("where", "step"), [(projection, "_model"), (Ledger, "history")])
def test_a_decision_that_is_shown_meanwhile_is_not_missing(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, where: object, step: str
) -> None:
    first, second = (candidate(number) for number in (1, 2))
    run_promote(PromoteConfig(version=first))
    promote = partial(run_promote, PromoteConfig(version=second))
    at_its_next_call(monkeypatch, where, step, promote)
    found = projection.witnessed(Ledger("recommender", "Production"))
    assert [generation.number for generation in found] == [1, 2]


def test_what_mlflow_refuses_to_show_is_said_in_its_own_words(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("value too long for type character varying(5000)", BAD_REQUEST)

    version = candidate(1)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "update_model_version", refuse)
        with pytest.raises(RegistryError, match=r"refuses to show them: value too long for type"):
            run_promote(PromoteConfig(version=version))
    assert head().number == 1
    projection.show("recommender")
    assert shown() == "1"


@pytest.fixture
def unshown(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> Generation:
    """A decision that is in the ledger, and not yet to be seen in MLflow."""
    versions = [candidate(number) for number in (1, 2)]
    run_promote(PromoteConfig(version=versions[0]))
    with monkeypatch.context() as patch:
        patch.setattr(projection, "show", lambda *_, **__: [])
        run_promote(PromoteConfig(version=versions[1]))
    return head()


def test_the_next_decision_waits_until_the_last_one_is_shown(
    unshown: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "PATIENCE", 120.0)
    later = threading.Timer(0.5, projection.show, ["recommender"])
    later.start()
    projection.wait_until_shown(unshown)
    assert (shown(), projection.moved("recommender")) == ("2", [])
    later.join()


def test_nobody_waits_for_one_who_was_killed(
    unshown: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "PATIENCE", 0.5)
    time.sleep(0.5)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    projection.wait_until_shown(unshown)
