"""Candidates and releases: the two registered models, and how one becomes the other.

Trainers register candidates in `<model_name>-candidates`; `<model_name>` holds releases, which only
`promote` makes. A release is a copy: the candidate's plain data, checked file by file, logged anew
in a run of its own in the experiment `<model_name>-releases`, where trainers need no right.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys import logged_models, tracking, view
from recsys.drivers import DRIVER_TAG, driver
from recsys.errors import ModelError, UsageError
from recsys.models.manifest import FileFacts
from recsys.once import REQUEST_TAG, experiment_named, made, run_of
from recsys.tracking import ALGORITHM_TAG, CODE_TAG, RECIPE_TAG
from registry import kept
from registry.fetching import fetch

MODEL_DIGEST = "recsys.model_digest"
DATASET_DIGEST = "recsys.dataset_digest"
CANDIDATE = "recsys.candidate_version"
DUPLICATE = "recsys.duplicate_of"
RELEASE = "release"
RELEASES_NOTE = """\
Releases: written by `promote` alone. Who holds a stage stands in the ledger; alias and stage here
only show it (`python -m registry.history` prints the ledger, `python -m registry.reconcile` repairs
what is shown).
"""
RELEASE_NOTE = """\
A release: the model as it was promoted, and under *Artifacts* the evidence of every promotion
(`evidence/`): dossier, decision, approvals, the ledger's record.
"""


@dataclass(frozen=True)
class Release:
    """One version of a registered model, resolved once.

    Attributes:
        name: of the registered model.
        version: its number.
        run_id: the run that logged it.
        digest: SHA-256 of the model's manifest, taken when it was registered.
        dataset_digest: of the dataset that it was trained on.
        algorithm: name of the recommender.
        recipe: digest of recommender and hyperparameters.
        uri: where its files lie.
        files: what the ledger says of each file; None for a candidate.
        generation: of the ledger by which it holds its stage; 0 for a candidate.
        record: digest of that generation.
    """

    name: str
    version: int
    run_id: str
    digest: str
    dataset_digest: str
    algorithm: str
    recipe: str
    uri: str
    files: Mapping[str, FileFacts] | None = field(default=None, hash=False)
    generation: int = 0
    record: str = ""


def candidates_of(model_name: str) -> str:
    """Return the name of the registered model that trainers write."""
    return f"{model_name}-candidates"


def releases_of(model_name: str) -> str:
    """Return the name of the experiment that holds the releases' runs."""
    return f"{model_name}-releases"


def find_version(name: str, version: int) -> ModelVersion:
    """Return a version of a registered model; raises UsageError where there is none."""
    client = MlflowClient()
    try:
        return client.get_model_version(name, str(version))
    except MlflowException:
        known = [int(v.version) for v in versions_of(name)]
        there = f"there are {', '.join(map(str, sorted(known)))}" if known else "there is none yet"
        raise UsageError(f"{name} has no version {version}: {there}.") from None


def versions_of(name: str) -> list[ModelVersion]:
    """Return all versions of a registered model, also of one that is not there."""
    return list(MlflowClient().search_model_versions(f"name='{name}'"))


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
        f"models:/{version.name}/{version.version}",
    )


@contextmanager
def verified_model(release: Release) -> Iterator[Path]:
    """Fetch a release's files, each checked before it is opened.

    Where MLflow's server does not answer and this machine may do without, the copy that was
    verified last is checked once more and used.

    Yields:
        The folder of the saved model, which lives as long as the context.

    Raises:
        ModelError: a file was changed, is no plain data, or the digest differs.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-release-") as scratch:
        folder = Path(scratch) / "model"
        copied = kept.copied(release.digest, folder) if kept.is_offline() else None
        digest = copied or fetch(release.uri, folder, release.files)
        if digest != release.digest:
            raise ModelError(
                f"Version {release.version} of {release.name} is not the model that was "
                f"registered (digest {digest[:12]}, registered {release.digest[:12] or 'none'}): "
                "promote a version whose files are unchanged."
            )
        if release.generation:
            kept.keep(release.digest, folder)
        yield folder


def released(candidate: ModelVersion, model_name: str, folder: Path) -> Release:
    """Return the release of a candidate; makes it where there is none whose files are intact.

    Args:
        candidate: to release.
        model_name: registered model of the releases.
        folder: the candidate's files, verified.

    Returns:
        Its run, version and place. Of several that were made at one moment, all take the first.
    """
    found, damaged = intact(model_name, to_release(candidate).digest)
    return found or _make(candidate, model_name, folder, damaged)


def intact(model_name: str, digest: str) -> tuple[Release | None, int]:
    """Return the first release of a model whose files are as they were, and how many are not."""
    damaged = 0
    for known in sorted(versions_of(model_name), key=lambda v: int(v.version)):
        if known.tags.get(MODEL_DIGEST) != digest or REQUEST_TAG not in known.tags:
            continue
        release = to_release(known)
        try:
            with verified_model(release):
                return release, damaged
        except ModelError:
            damaged += 1
    return None, damaged


def _make(candidate: ModelVersion, model_name: str, folder: Path, attempt: int) -> Release:
    """Make a release: a run that holds the model, and a version of it."""
    source = to_release(candidate)
    asked = f"release\n{model_name}\n{source.digest}\n{attempt}"
    request = hashlib.sha256(asked.encode()).hexdigest()[:32]
    name = f"{candidate.name} {candidate.version}"
    tags = {
        CODE_TAG: candidate.tags.get(CODE_TAG, ""),
        MODEL_DIGEST: source.digest,
        ALGORITHM_TAG: source.algorithm,
        RECIPE_TAG: source.recipe,
        DATASET_DIGEST: source.dataset_digest,
        CANDIDATE: candidate.version,
        REQUEST_TAG: request,
    }
    experiment = experiment_named(releases_of(model_name))
    # Without the digests by which `compare` finds those that were trained.
    told = {
        tracking.STEP_TAG: RELEASE,
        view.NOTE: RELEASE_NOTE,
        CANDIDATE: candidate.version,
        DRIVER_TAG: driver(),
    }
    made_for = run_of(experiment, request, name, told)
    with tracking.opened(made_for) as run:
        metadata = {"algorithm": source.algorithm, "model_digest": source.digest}
        logged = logged_models.log_model(folder, run, metadata)
    version = _registered(model_name, run.info.run_id, str(logged.model_id), tags)
    return to_release(version)


def _registered(
    model_name: str, run_id: str, model_id: str, tags: Mapping[str, str]
) -> ModelVersion:
    """Register a release run's model; of two registered at one moment, the first one stays."""
    client = MlflowClient()
    try:
        client.create_registered_model(model_name, description=RELEASES_NOTE)
    except MlflowException as error:
        # Also said to whoever may not make one: then an administrator has made it.
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"):
            raise
    source = mlflow.get_logged_model(model_id).artifact_location
    request = tags[REQUEST_TAG]

    def look_up() -> ModelVersion | None:
        found = [v for v in versions_of(model_name) if v.tags.get(REQUEST_TAG) == request]
        return min(found, key=lambda v: int(v.version), default=None)

    def make() -> ModelVersion:
        return client.create_model_version(
            model_name, source, run_id=run_id, model_id=model_id, tags=dict(tags)
        )

    mine = made(look_up, make)
    first = look_up() or mine
    if first.version != mine.version:
        # Made at one moment with the first; a server may not let reviewers delete.
        with suppress(MlflowException):
            client.set_model_version_tag(model_name, mine.version, DUPLICATE, str(first.version))
            client.delete_model_version(model_name, mine.version)
            if first.run_id != run_id:
                client.delete_run(run_id)
    return first
