"""The walk from training to scoring, by MLflow's own clients, each as who does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from deploy.server.roles import Places
from recsys import tracking
from registry.releases import candidates_of
from tests.mlflow_server import TeamServer

CANDIDATES, RELEASES = "recommender-candidates", "recommender"


@contextmanager
def signed_in(server: TeamServer, account: str, experiment: str = "") -> Iterator[MlflowClient]:
    """Be somebody for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment(account).items():
            patch.setenv(name, value)
        if experiment:
            patch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(server.uri)
        try:
            yield MlflowClient(server.uri)
        finally:
            mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def candidate(server: TeamServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The version that a trainer registered."""
    data = tmp_path_factory.mktemp("model") / "model.json"
    data.write_text("{}")
    with signed_in(server, "ada") as client:
        with tracking.step_run("als", "als", {"factors": 8}) as run:
            logged = mlflow.pyfunc.log_model(
                name="model",
                loader_module="recsys.serving",
                data_path=str(data),
                pip_requirements=["recsys"],
            )
            mlflow.log_metric("ndcg", 0.5, model_id=logged.model_id)
            mlflow.log_text("<p>won</p>", "dossier.html")
        return str(
            client.create_model_version(
                CANDIDATES, str(logged.model_uri), run.info.run_id, model_id=logged.model_id
            ).version
        )


@pytest.fixture(scope="module")
def release(server: TeamServer, candidate: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The version that a reviewer released: the candidate's bytes, logged anew."""
    copied = tmp_path_factory.mktemp("copied")
    with signed_in(server, "grace", "recommender-releases") as client:
        uri = client.get_model_version_download_uri(CANDIDATES, candidate)
        mlflow.artifacts.download_artifacts(f"{uri}/data/model.json", dst_path=str(copied))
        with tracking.step_run("promote", "promote", {"version": candidate}) as run:
            (found,) = copied.rglob("model.json")
            logged = mlflow.pyfunc.log_model(
                name="model",
                loader_module="recsys.serving",
                data_path=str(found),
                pip_requirements=["recsys"],
            )
        version = client.create_model_version(
            RELEASES, str(logged.model_uri), run.info.run_id, model_id=logged.model_id
        ).version
        client.set_model_version_tag(RELEASES, version, "recsys.model_digest", "0")
        client.transition_model_version_stage(RELEASES, version, "Production")
        client.set_registered_model_alias(RELEASES, "production", version)
        return str(version)


def test_a_scorer_fetches_the_release_and_logs_runs_of_its_own(
    server: TeamServer, release: str, tmp_path: Path
) -> None:
    with signed_in(server, "nightly", "recommender-scoring") as client:
        with tracking.step_run("batch_score", "nightly", {"k": 10}) as run:
            held = client.get_model_version_by_alias(RELEASES, "production")
            fetched = mlflow.artifacts.download_artifacts(
                f"models:/{RELEASES}/{held.version}", dst_path=str(tmp_path)
            )
            mlflow.log_dict({"rows": 1}, "batch_score.json")
        experiment = client.get_experiment(run.info.experiment_id).name
    assert (str(held.version), held.current_stage) == (release, "Production")
    assert (Path(fetched) / "data" / "model.json").read_text() == "{}"
    assert experiment == "recommender-scoring"


def test_an_analyst_reads_runs_and_releases(server: TeamServer, release: str) -> None:
    with signed_in(server, "mary") as client:
        names = {e.name for e in client.search_experiments()}
        (version,) = client.search_model_versions(f"name='{RELEASES}' and version_number={release}")
        page = mlflow.artifacts.load_text(f"runs:/{_first_run(client)}/dossier.html")
    assert names >= {"recsys", "recommender-releases", "recommender-scoring"}
    assert version.current_stage == "Production"
    assert page == "<p>won</p>"


def test_a_trainer_cannot_release_their_own_model(server: TeamServer, candidate: str) -> None:
    with signed_in(server, "ada") as client:
        uri = client.get_model_version_download_uri(CANDIDATES, candidate)
        with pytest.raises(MlflowException, match="Permission denied"):
            client.create_model_version(RELEASES, uri)
        with pytest.raises(MlflowException, match="Permission denied"):
            client.set_registered_model_alias(RELEASES, "production", "1")


def test_the_roles_name_the_flow_s_own_experiment_and_models() -> None:
    places = Places("recommender")
    assert places.runs == tracking.EXPERIMENT
    assert places.candidates == candidates_of("recommender") == CANDIDATES


def _first_run(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name("recsys")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "attributes.run_name = 'als'")
    return str(runs[0].info.run_id)
