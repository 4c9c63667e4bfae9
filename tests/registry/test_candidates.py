"""Candidates are registered once, and carry who made them."""

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry.candidates import (
    AUTHOR_TAG,
    CANDIDATES_NOTE,
    authors_of,
    create_candidate,
    find_candidate,
)
from registry.releases import MODEL_DIGEST, find_version, versions_of

NAME = "shop-candidates"


def logged(user: str) -> tuple[str, str]:
    """Return the ids of a run that somebody started and of a model that it logged."""
    with mlflow.start_run(tags={"mlflow.user": user}) as run:
        model = mlflow.initialize_logged_model("model", run.info.run_id)
        return run.info.run_id, model.model_id


def test_a_candidate_is_found_by_its_models_digest(mlflow_store: str) -> None:
    assert find_candidate(NAME, "d1") is None
    version = create_candidate(NAME, *logged("sam"), "It won.", {MODEL_DIGEST: "d1", "x": "y"})
    assert find_candidate(NAME, "d1") == version == 1
    assert find_candidate(NAME, "d2") is None
    found = find_version(NAME, version)
    assert (found.description, found.tags["x"]) == ("It won.", "y")
    assert MlflowClient().get_registered_model(NAME).description == CANDIDATES_NOTE


def test_one_model_becomes_one_candidate(mlflow_store: str) -> None:
    first = create_candidate(NAME, *logged("sam"), "First.", {MODEL_DIGEST: "d1"})
    other = create_candidate(NAME, *logged("sam"), "Other.", {MODEL_DIGEST: "d2"})
    again = create_candidate(NAME, *logged("sam"), "Again.", {MODEL_DIGEST: "d1"})
    assert (first, other, again) == (1, 2, 1)
    assert find_version(NAME, first).description == "First."


def test_a_lost_answer_makes_no_second_version(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = MlflowClient.create_model_version, []

    def lost(client: MlflowClient, *arguments: object, **options: object) -> object:
        calls.append(honest(client, *arguments, **options))
        raise MlflowException("the answer was lost")

    monkeypatch.setattr(MlflowClient, "create_model_version", lost)
    monkeypatch.setattr("recsys.once.PAUSE", 0)
    assert create_candidate(NAME, *logged("sam"), "It won.", {MODEL_DIGEST: "d1"}) == 1
    assert len(calls) == len(versions_of(NAME)) == 1


def test_authors_are_who_trained_who_registered_and_who_made_what_it_came_from(
    mlflow_store: str,
) -> None:
    trained = logged("sam")
    with mlflow.start_run(tags={"mlflow.user": "kim"}):
        version = create_candidate(NAME, *trained, "", {MODEL_DIGEST: "d1"}, ["ada", "sam"])
    found = find_version(NAME, version)
    assert authors_of(found) == {"ada", "kim", "sam"}
    assert found.tags[AUTHOR_TAG] == "ada,kim,sam"
