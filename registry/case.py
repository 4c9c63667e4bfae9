"""The case for a candidate: all that a reviewer reads, and by its digests signs."""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys.errors import RegistryError
from recsys.models import files
from recsys.training import recipe
from registry.candidates import DOSSIER_TAG, EVALUATED_DIGEST, authors_of
from registry.decisions import DECISION_FILE
from registry.ledger import DOSSIER
from registry.releases import MODEL_DIGEST
from registry.told import THIS

# A dossier with everything in it has one or two megabytes.
MOST_BYTES = 64 * 2**20
REFIT, REFIT_FILES = "refit.json", ("refit.json", "refit.html")


@dataclass(frozen=True)
class Case:
    """What speaks for a candidate.

    Attributes:
        candidate: the version.
        model_digest: of its model.
        judged_digest: of the model that the dossier judged: its own, or the one it is a refit of.
        judged_version: of the candidate that the dossier judged.
        algorithm: name of the recommender, read from the model itself.
        recipe: digest of recommender and hyperparameters, likewise.
        dataset_digest: of what it was fitted on, likewise.
        files: name → content: dossier, decision, and a refit's checks.
        decision: what decision.json says; empty where the candidate was never compared.
        authors: accounts that trained, compared or refitted.
    """

    candidate: ModelVersion
    model_digest: str
    judged_digest: str
    judged_version: int
    algorithm: str
    recipe: str
    dataset_digest: str
    files: Mapping[str, bytes]
    decision: Mapping[str, Any]
    authors: frozenset[str]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each piece of evidence, the per-customer hit tables among them."""
        found = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        tables = self.decision.get("hit_tables", {})
        return found | {f"hits/{name}": digest for name, digest in tables.items()}

    @property
    def is_refit(self) -> bool:
        """Whether the dossier judged another model, of which this one is a fresh fit."""
        return self.judged_digest != self.model_digest

    @property
    def speaks_of(self) -> str:
        """Which model the dossier judged."""
        if not self.is_refit:
            return THIS
        of = f"version {self.judged_version} of {self.candidate.name}"
        return f"{of}, of which this model is a refit"

    @property
    def compared_stage(self) -> str:
        """Whose holder it was compared with."""
        return str(self.decision.get("stage", "Production"))

    @property
    def sentence(self) -> str:
        """The comparison's decision in words."""
        return str(self.decision.get("sentence", "never compared"))


def evidence_digest(digests: Mapping[str, str]) -> str:
    """Return one digest of all evidence: what a reviewer signs."""
    return hashlib.sha256(json.dumps(dict(digests), sort_keys=True).encode()).hexdigest()


def case_of(candidate: ModelVersion, model: Path) -> Case:
    """Collect what speaks for a candidate.

    Args:
        candidate: the version.
        model: its files, verified.

    Raises:
        RegistryError: the evidence that it links is not there, or is none.
    """
    header, _ = files.read_header(model)
    digest = candidate.tags.get(MODEL_DIGEST, "")
    runs, found = {candidate.run_id or ""}, dict[str, bytes]()
    compared = re.search(r"/runs/(\w+)/", candidate.tags.get(DOSSIER_TAG, ""))
    if compared:
        runs.add(compared[1])
        for name in (DOSSIER, DECISION_FILE):
            found[name] = _artifact(compared[1], name)
    judged, version = digest, int(candidate.version)
    if candidate.tags.get(EVALUATED_DIGEST):
        for name in REFIT_FILES:
            found[name] = _artifact(candidate.run_id or "", name)
        judged, version = _evaluated(found[REFIT], digest)
    try:
        decision = json.loads(found.get(DECISION_FILE, b"{}"))
    except (ValueError, RecursionError):
        raise RegistryError(f"{DECISION_FILE} is damaged: compare again.") from None
    return Case(
        candidate,
        digest,
        judged,
        version,
        header.algorithm,
        recipe(header.algorithm, header.parameters),
        header.dataset_digest,
        found,
        decision,
        frozenset(authors_of(candidate) | {_user_of(run) for run in runs if run}),
    )


def _evaluated(data: bytes, digest: str) -> tuple[str, int]:
    """Return digest and version of the model that a refit is of.

    The tags of a candidate can be changed after a review; `refit.json` is part of what was signed.

    Args:
        data: of `refit.json`.
        digest: of the refit.

    Raises:
        RegistryError: it is damaged, or speaks of another refit.
    """
    try:
        told = json.loads(data)
        if told["digest"] == digest:
            return str(told["evaluated_digest"]), int(told["version"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass
    raise RegistryError(f"{REFIT} does not speak of this model: refit again.")


def _artifact(run_id: str, name: str) -> bytes:
    """Fetch one artifact of a run; raises RegistryError where it is not there or too large."""
    try:
        listed = {f.path: f.file_size or 0 for f in MlflowClient().list_artifacts(run_id)}
        if listed.get(name, 0) > MOST_BYTES:
            raise RegistryError(f"{name} of run {run_id} has {listed[name]:,} bytes: no evidence.")
        with tempfile.TemporaryDirectory(prefix="recsys-case-") as scratch:
            file = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=name, dst_path=scratch
            )
            return Path(file).read_bytes()
    except (MlflowException, OSError):
        raise RegistryError(
            f"Run {run_id} has no readable {name}: compare again, so that there is something to "
            "review."
        ) from None


def _user_of(run_id: str) -> str:
    """Return who started a run, as the client named them."""
    try:
        return str(MlflowClient().get_run(run_id).info.user_id)
    except MlflowException:
        raise RegistryError(
            f"Run {run_id} of the candidate is not there, so nobody knows its author: compare "
            "again."
        ) from None
