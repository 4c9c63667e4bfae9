"""Candidates: models that wait for a reviewer. `compare` registers winners, `refit` fresh fits."""

from collections.abc import Iterable, Mapping

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys.once import made
from registry.releases import MODEL_DIGEST, versions_of

CANDIDATES_NOTE = """\
Candidates: winners of `compare`, and fresh fits of them by `refit`, waiting for a reviewer. Each
version's description says whom it beat, or which version it refits, and links the dossier; its tags
carry the digests of model, dataset and recipe. `python -m registry.promote --version N` releases
one.
"""
DOSSIER_TAG = "recsys.dossier"
# Who trained, compared or refitted it, by comma.
AUTHOR_TAG = "recsys.author"
# Only a refit has these: they name the version that was compared, which the dossier speaks of.
EVALUATED_VERSION = "recsys.evaluated_version"
EVALUATED_RUN = "recsys.evaluated_run"
EVALUATED_DIGEST = "recsys.evaluated_model_digest"
# Address of the page that holds a refit against the version that was evaluated.
CHECKS_TAG = "recsys.refit_checks"


def find_candidate(name: str, model_digest: str) -> int | None:
    """Return the first version that was registered for a model, None where there is none.

    Args:
        name: of the candidates' registered model.
        model_digest: of the model's manifest.
    """
    same = (v for v in versions_of(name) if v.tags.get(MODEL_DIGEST) == model_digest)
    return min((int(v.version) for v in same), default=None)


def authors_of(version: ModelVersion) -> set[str]:
    """Return who trained, compared or refitted a candidate, as their clients named them."""
    return {author for author in version.tags.get(AUTHOR_TAG, "").split(",") if author}


def create_candidate(
    name: str,
    run_id: str,
    model_id: str,
    description: str,
    tags: Mapping[str, str],
    authors: Iterable[str] = (),
) -> int:
    """Register a logged model as a candidate, once; returns its version.

    Args:
        name: of the candidates' registered model, made where it is missing.
        run_id: of the run that logged the model.
        model_id: of the logged model.
        description: what the UI says of the version.
        tags: MODEL_DIGEST, by which the version is found again, and what else describes it.
        authors: beside those who started that run and the open one.
    """
    client, active = MlflowClient(), mlflow.active_run()
    runs = {run_id, active.info.run_id} if active else {run_id}
    by = {client.get_run(run).info.user_id for run in runs}.union(authors)
    try:
        client.create_registered_model(name, description=CANDIDATES_NOTE)
    except MlflowException as error:
        # Also said to whoever may not make one: then an administrator has made it.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"):
            raise
    source = mlflow.get_logged_model(model_id).artifact_location

    def make() -> int:
        version = client.create_model_version(
            name,
            source,
            run_id=run_id,
            model_id=model_id,
            description=description,
            tags={AUTHOR_TAG: ",".join(sorted(by)), **tags},
        )
        return int(version.version)

    return made(lambda: find_candidate(name, tags[MODEL_DIGEST]), make)
