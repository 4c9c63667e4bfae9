"""Candidates and releases: the two registered models, and who holds a stage.

Trainers register candidates in `<model_name>-candidates`; only `promote` writes `<model_name>`.
"""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys.errors import ModelError, UsageError
from recsys.models import files
from recsys.tracking import ALGORITHM_TAG, RECIPE_TAG

STAGES = ("Staging", "Production", "Archived")
MODEL_DIGEST = "recsys.model_digest"
DATASET_DIGEST = "recsys.dataset_digest"
CANDIDATE = "recsys.candidate_version"


@dataclass(frozen=True)
class Release:
    """One version of a registered model, resolved once.

    Attributes:
        name: of the registered model.
        version: its number.
        run_id: the training run.
        digest: SHA-256 of the model's manifest, taken when it was registered.
        dataset_digest: of the dataset that it was trained on.
        algorithm: name of the recommender.
        recipe: digest of recommender and hyperparameters.
    """

    name: str
    version: int
    run_id: str
    digest: str
    dataset_digest: str
    algorithm: str
    recipe: str


def candidates_of(model_name: str) -> str:
    """Return the name of the registered model that trainers write."""
    return f"{model_name}-candidates"


def find_holder(model_name: str, stage: str) -> Release | None:
    """Return the version that holds a stage or an alias, None where nobody does.

    Args:
        model_name: the registered model.
        stage: Staging, Production, Archived, or any alias.

    Raises:
        ModelError: two versions hold the stage, or alias and stage disagree.
    """
    client = MlflowClient()
    alias = _version_by_alias(client, model_name, stage.lower())
    if stage not in STAGES:
        return to_release(alias) if alias else None
    held = [v for v in _versions(client, model_name) if v.current_stage == stage]
    if len(held) > 1:
        numbers = ", ".join(str(v.version) for v in held)
        raise ModelError(
            f"Versions {numbers} of {model_name} all hold the stage {stage}: "
            "promote the right one again."
        )
    if held and alias and held[0].version != alias.version:
        raise ModelError(
            f"Version {held[0].version} of {model_name} holds the stage {stage}, but the alias "
            f"{stage.lower()} points to version {alias.version}: promote the right one again."
        )
    holder = held[0] if held else alias
    return to_release(holder) if holder else None


def holder_of(model_name: str, stage: str) -> Release:
    """Return the version that holds a stage; raises UsageError where nobody does."""
    holder = find_holder(model_name, stage)
    if holder is None:
        raise UsageError(
            f"No version of {model_name} holds {stage}: promote one "
            f"(python -m registry.promote --model_name {model_name} --version N --stage {stage})."
        )
    return holder


def find_version(name: str, version: int) -> ModelVersion:
    """Return a version of a registered model; raises UsageError where there is none."""
    client = MlflowClient()
    try:
        return client.get_model_version(name, str(version))
    except MlflowException:
        known = [int(v.version) for v in _versions(client, name)]
        there = f"there are {', '.join(map(str, sorted(known)))}" if known else "there is none yet"
        raise UsageError(f"{name} has no version {version}: {there}.") from None


def to_release(version: ModelVersion) -> Release:
    """Read what a version's tags say."""
    return Release(
        version.name,
        int(version.version),
        version.run_id or "",
        version.tags.get(MODEL_DIGEST, ""),
        version.tags.get(DATASET_DIGEST, ""),
        version.tags.get(ALGORITHM_TAG, ""),
        version.tags.get(RECIPE_TAG, ""),
    )


@contextmanager
def verified_model(release: Release) -> Iterator[Path]:
    """Fetch a release's files and check them against the digest taken at registration.

    Yields:
        The folder of the saved model, which lives as long as the context.

    Raises:
        ModelError: a file was changed, or the digest differs.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-release-") as scratch:
        uri = f"models:/{release.name}/{release.version}"
        fetched = Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch))
        folder = next((f.parent for f in sorted(fetched.rglob(files.MANIFEST))), fetched)
        digest = files.check(folder)
        if digest != release.digest:
            raise ModelError(
                f"Version {release.version} of {release.name} is not the model that was "
                f"registered (digest {digest[:12]}, registered {release.digest[:12] or 'none'}): "
                "promote a version whose files are unchanged."
            )
        yield folder


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name='{name}'"))


def _version_by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


def set_stage(version: ModelVersion, stage: str) -> None:
    """Give a version the alias and the stage; the former holder's stage becomes Archived."""
    client = MlflowClient()
    with warnings.catch_warnings():
        # Stages are deprecated in MLflow, but they are what people look for in its UI.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(
            version.name, version.version, stage, archive_existing_versions=stage != "Archived"
        )
    client.set_registered_model_alias(version.name, stage.lower(), version.version)
