"""Each call that the flow makes, as MLflow's clients send it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

API = "api/2.0/mlflow"
FILES = "api/2.0/mlflow-artifacts/artifacts"
Call = Callable[["Caller", "Place"], requests.Response]


@dataclass(frozen=True)
class Caller:
    """Somebody with a name and a password, or without."""

    uri: str
    session: requests.Session

    @classmethod
    def of(cls, uri: str, account: tuple[str, str] | None) -> "Caller":
        session = requests.Session()
        session.auth = account
        return cls(uri, session)

    def get(self, path: str, /, **parameters: Any) -> requests.Response:
        return self.session.get(f"{self.uri}/{path}", params=parameters)

    def send(self, path: str, method: str = "POST", /, **values: Any) -> requests.Response:
        return self.session.request(method, f"{self.uri}/{path}", json=values)

    def file(self, path: str, method: str) -> requests.Response:
        return self.session.request(method, f"{self.uri}/{FILES}/{path}", data=b"bytes")


@dataclass(frozen=True)
class Place:
    """An experiment, or a registered model, with what lies in it."""

    name: str
    experiment_id: str
    run_id: str
    model_id: str
    location: str
    version: str = "1"


def made(admin: Caller, experiment: str) -> Place:
    """Put a run with a file, and a logged model, into an experiment."""
    known = admin.get(f"{API}/experiments/get-by-name", experiment_name=experiment).json()
    number = known["experiment"]["experiment_id"]
    run = admin.send(f"{API}/runs/create", experiment_id=number, start_time=1).json()["run"]["info"]
    location = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert admin.file(f"{location}/dossier.html", "PUT").ok
    logged = admin.send(f"{API}/logged-models", experiment_id=number, source_run_id=run["run_id"])
    model_id = logged.json()["model"]["info"]["model_id"]
    return Place(experiment, number, run["run_id"], model_id, location)


def registered(admin: Caller, model: str, place: Place) -> Place:
    """Put a version with an alias into a registered model."""
    here = Place(model, place.experiment_id, place.run_id, place.model_id, place.location)
    assert create_version(admin, here).ok
    assert set_alias(admin, here).ok
    return here


def create_version(caller: Caller, place: Place) -> requests.Response:
    return caller.send(
        f"{API}/model-versions/create",
        name=place.name,
        source=f"models:/{place.model_id}",
        run_id=place.run_id,
        model_id=place.model_id,
    )


def set_alias(caller: Caller, place: Place) -> requests.Response:
    path = f"{API}/registered-models/alias"
    return caller.send(path, name=place.name, alias="production", version=place.version)


# What is done with an experiment, its runs, their files and their models.
EXPERIMENTS: dict[str, Call] = {
    "find it by name": lambda c, p: c.get(f"{API}/experiments/get-by-name", experiment_name=p.name),
    "read a run": lambda c, p: c.get(f"{API}/runs/get", run_id=p.run_id),
    "list a run's files": lambda c, p: c.get(f"{API}/artifacts/list", run_id=p.run_id),
    "list files of the store": lambda c, p: c.get(FILES, path=p.location),
    "fetch a file": lambda c, p: c.file(f"{p.location}/dossier.html", "GET"),
    "read a logged model": lambda c, p: c.get(f"{API}/logged-models/{p.model_id}"),
    "describe it": lambda c, p: c.send(
        f"{API}/experiments/set-experiment-tag",
        experiment_id=p.experiment_id,
        key="mlflow.note.content",
        value="text",
    ),
    "create a run": lambda c, p: c.send(
        f"{API}/runs/create", experiment_id=p.experiment_id, start_time=1
    ),
    "log metrics and parameters": lambda c, p: c.send(
        f"{API}/runs/log-batch",
        run_id=p.run_id,
        metrics=[{"key": "ndcg", "value": 0.5, "timestamp": 1, "step": 0}],
    ),
    "log a dataset": lambda c, p: c.send(f"{API}/runs/log-inputs", run_id=p.run_id, datasets=[]),
    "tag a run": lambda c, p: c.send(f"{API}/runs/set-tag", run_id=p.run_id, key="k", value="v"),
    "end a run": lambda c, p: c.send(f"{API}/runs/update", run_id=p.run_id, status="FINISHED"),
    "upload a file": lambda c, p: c.file(f"{p.location}/uploaded.html", "PUT"),
    "create a logged model": lambda c, p: c.send(
        f"{API}/logged-models", experiment_id=p.experiment_id, source_run_id=p.run_id
    ),
    "finalize a logged model": lambda c, p: c.send(
        f"{API}/logged-models/{p.model_id}",
        "PATCH",
        model_id=p.model_id,
        status="LOGGED_MODEL_READY",
    ),
    "delete a file": lambda c, p: c.file(f"{p.location}/dossier.html", "DELETE"),
    "delete a logged model": lambda c, p: c.send(f"{API}/logged-models/{p.model_id}", "DELETE"),
    "delete a run": lambda c, p: c.send(f"{API}/runs/delete", run_id=p.run_id),
    "delete it": lambda c, p: c.send(f"{API}/experiments/delete", experiment_id=p.experiment_id),
}

# What is done with a registered model and its versions.
MODELS: dict[str, Call] = {
    "read it": lambda c, p: c.get(f"{API}/registered-models/get", name=p.name),
    "read a version": lambda c, p: c.get(
        f"{API}/model-versions/get", name=p.name, version=p.version
    ),
    "read the alias": lambda c, p: c.get(
        f"{API}/registered-models/alias", name=p.name, alias="production"
    ),
    "find its files": lambda c, p: c.get(
        f"{API}/model-versions/get-download-uri", name=p.name, version=p.version
    ),
    "register a version": create_version,
    "describe a version": lambda c, p: c.send(
        f"{API}/model-versions/update", "PATCH", name=p.name, version=p.version, description="d"
    ),
    "tag a version": lambda c, p: c.send(
        f"{API}/model-versions/set-tag", name=p.name, version=p.version, key="k", value="v"
    ),
    "move a stage": lambda c, p: c.send(
        f"{API}/model-versions/transition-stage",
        name=p.name,
        version=p.version,
        stage="Production",
        archive_existing_versions=False,
    ),
    "move an alias": set_alias,
    "take an alias away": lambda c, p: c.send(
        f"{API}/registered-models/alias", "DELETE", name=p.name, alias="production"
    ),
    "take a tag away": lambda c, p: c.send(
        f"{API}/model-versions/delete-tag", "DELETE", name=p.name, version=p.version, key="k"
    ),
    "delete a version": lambda c, p: c.send(
        f"{API}/model-versions/delete", "DELETE", name=p.name, version=p.version
    ),
    "delete it": lambda c, p: c.send(f"{API}/registered-models/delete", "DELETE", name=p.name),
}

# What is done with the server.
SERVER: dict[str, Call] = {
    "open the UI": lambda c, p: c.get(""),
    "search experiments": lambda c, p: c.get(f"{API}/experiments/search", max_results=9),
    "search versions": lambda c, p: c.get(f"{API}/model-versions/search", max_results=9),
    "create an experiment": lambda c, p: c.send(f"{API}/experiments/create", name="own"),
    "create a registered model": lambda c, p: c.send(f"{API}/registered-models/create", name="own"),
    "create an account": lambda c, p: c.send(
        f"{API}/users/create", username="eve", password="eve's-own-password"
    ),
    "list accounts": lambda c, p: c.get(f"{API}/users/list"),
    "change another's password": lambda c, p: c.send(
        f"{API}/users/update-password", "PATCH", username="admin", password="eve's-own-password"
    ),
    "become an admin": lambda c, p: c.send(
        f"{API}/users/update-admin", "PATCH", username="ada", is_admin=True
    ),
    "give oneself a role": lambda c, p: c.send(
        "api/3.0/mlflow/roles/assign", username="ada", role_id=1
    ),
    "give oneself a right": lambda c, p: c.send(
        "api/3.0/mlflow/users/permissions/grant",
        username="ada",
        resource_type="registered_model",
        resource_id=p.name,
        permission="MANAGE",
    ),
    "create a webhook": lambda c, p: c.send(
        f"{API}/webhooks", name="w", url="https://example.com", events=[]
    ),
}
