"""The experiment's page: links, the ready-made view, a description that people may change."""

import base64
import json
import zlib
from urllib.parse import unquote

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.view import (
    COMPARED,
    NOTE,
    VIEW,
    artifact_address,
    comparison_address,
    describe_children,
    describe_experiment,
    run_address,
    view_address,
    view_state,
)


@pytest.fixture
def experiment(mlflow_store: str) -> str:
    found = mlflow.get_experiment_by_name("recsys")
    assert found is not None
    return str(found.experiment_id)


def note(experiment: str) -> str:
    return str(MlflowClient().get_experiment(experiment).tags[NOTE])


def test_the_view_shows_metrics_the_best_run_first(experiment: str) -> None:
    describe_experiment(experiment)
    tag = MlflowClient().get_experiment(experiment).tags[f"mlflow.sharedViewState.{VIEW}"]
    packed = tag.removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["orderByKey"] == "metrics.`test/ndcg_at_10`"
    assert not state["orderByAsc"]
    assert "metrics.`test/replenish/ndcg_at_10`" in state["selectedColumns"]
    assert "params.`dataset_digest`" in state["selectedColumns"]


def test_the_view_leaves_the_trials_of_searches_out(experiment: str) -> None:
    for step in ("als", "trial"):
        with mlflow.start_run(tags={"recsys.step": step}):
            pass
    [shown] = mlflow.search_runs([experiment], view_state()["searchFilter"], output_format="list")
    assert shown.data.tags["recsys.step"] == "als"


def test_a_view_of_a_run_s_children_shows_them_alone(experiment: str) -> None:
    key = describe_children(experiment, "0123456789ab", ["validation/m", "n"], ["a"], True)
    tag = MlflowClient().get_experiment(experiment).tags[f"mlflow.sharedViewState.{key}"]
    state = json.loads(zlib.decompress(base64.b64decode(tag.removeprefix("deflate;"))))
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = '0123456789ab'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`validation/m`", True)
    assert state["selectedColumns"] == ["metrics.`validation/m`", "metrics.`n`", "params.`a`"]
    assert view_address(experiment, "", key).endswith(f"viewStateShareKey={key}")


def test_the_description_links_the_view_and_then_the_last_comparison(experiment: str) -> None:
    describe_experiment(experiment)
    assert f"({view_address(experiment, host='')})" in note(experiment)
    assert "registry.compare" in note(experiment)
    compared = COMPARED.format(page="/#/page", dossier="/#/dossier", sentence="als wins.")
    describe_experiment(experiment, compared)
    assert "[its dossier](/#/dossier): als wins." in note(experiment)
    # A later run does not take the comparison away.
    describe_experiment(experiment)
    assert "als wins." in note(experiment)


def test_a_description_that_a_person_wrote_stays(experiment: str) -> None:
    describe_experiment(experiment)
    MlflowClient().set_experiment_tag(experiment, NOTE, "Ask Anna before you delete runs.")
    describe_experiment(experiment, "als wins.")
    assert note(experiment) == "Ask Anna before you delete runs."


def test_addresses() -> None:
    mode = "?workflowType=machine_learning"
    assert run_address("1", "abc", "http://h") == f"http://h/#/experiments/1/runs/abc{mode}"
    dossier = artifact_address("1", "abc", "dossier.html", "")
    assert dossier == f"/#/experiments/1/runs/abc/artifacts/dossier.html{mode}"
    page = unquote(comparison_address([("1", "a"), ("2", "b"), ("1", "c")], "http://h"))
    expected = 'http://h/#/compare-runs?runs=["a","b","c"]&experiments=["1","2"]&'
    assert page == f"{expected}workflowType=machine_learning"


def test_links_lead_to_the_tracking_server_else_to_make_ui(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "5077")
    assert run_address("1", "abc").startswith("http://127.0.0.1:5077/#/")
    mlflow.set_tracking_uri("http://mlflow.example:8080")
    assert run_address("1", "abc").startswith("http://mlflow.example:8080/#/")
