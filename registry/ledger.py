"""The ledger: who holds a stage, since when, by whose decision and on what evidence.

    <ledger>/<model name>/<stage>/_commits/00000001.json      a generation, never rewritten
    <ledger>/<model name>/reviews/<stage>/<sha256>.json       signed approvals and rejections

A generation is a create-only commit: of several people who decide at once, one gets its number and
the others are told. Each record carries the digest of the one before. Alias and stage in MLflow
only show what the ledger says.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import mlflow
from pydantic import ConfigDict, TypeAdapter

from recsys.errors import RegistryError, UsageError
from recsys.models.manifest import FileFacts
from recsys.storage import (
    BrokenLogError,
    Commit,
    CommitLog,
    Place,
    folder_exists,
    place_of,
    store_of,
)

VARIABLE, FOLDER = "RECSYS_LEDGER", "ledger"
Stage = Literal["Staging", "Production", "Archived"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PROMOTE, ROLLBACK = "promote", "rollback"
FORMAT = 1
DOSSIER, DECISION = "dossier.html", "decision.json"


@dataclass(frozen=True)
class Record:
    """What one generation says.

    Attributes:
        action: PROMOTE or ROLLBACK.
        model_name: the registered model of the releases.
        stage: that it is about.
        version: of the release that holds the stage from now on.
        candidate: version of the candidate that it was copied from.
        run_id: the release run, which holds model, dossier, decision and approvals.
        model_uri: the release's own files.
        algorithm: name of the recommender.
        recipe: digest of recommender and hyperparameters.
        model_digest: SHA-256 of the model's manifest.
        files: each file of the model → size and SHA-256.
        dataset_digest: of what it was fitted on.
        evidence: file or hit table → SHA-256: dossier, decision, per-customer tables.
        speaks_of: which model the dossier judged: this one, or the one that this is a refit of.
        sentence: the comparison's decision in words.
        policy_digest: of the policy that was asked.
        reviewers_digest: of the reviewers' file that was asked.
        approvals_wanted: how many the policy wanted.
        approvals: the signed approvals that counted, whole.
        predecessor: digest of the generation before; None for the first.
        restores: for a rollback the generation whose release comes back.
        authors: accounts that trained and compared.
        reviewer: who gave the command; only signatures prove who decided.
        reason: why, in the reviewer's words.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    action: str
    model_name: str
    stage: str
    version: int
    candidate: int
    run_id: str
    model_uri: str
    algorithm: str
    recipe: str
    model_digest: str
    files: Mapping[str, FileFacts]
    dataset_digest: str
    evidence: Mapping[str, str]
    speaks_of: str
    sentence: str
    policy_digest: str
    reviewers_digest: str
    approvals_wanted: int
    approvals: tuple[Mapping[str, Any], ...]
    predecessor: str | None
    restores: int | None
    authors: tuple[str, ...]
    reviewer: str
    reason: str
    format: int = field(default=FORMAT)


RECORD = TypeAdapter(Record)
# What each approval says in words; whether it counts is for its signature to tell.
APPROVAL = ("reviewer", "comment")


@dataclass(frozen=True)
class Generation:
    """A record and its place in the ledger.

    Attributes:
        number: 1, 2, … within model name and stage.
        digest: SHA-256 of the commit.
        time: when it was committed (ISO 8601, UTC).
        record: what it says.
    """

    number: int
    digest: str
    time: str
    record: Record


def ledger_place() -> Place:
    """Return where the ledger lies: RECSYS_LEDGER, or beside MLflow's own SQLite file.

    Raises:
        UsageError: MLflow's store is a server's, and RECSYS_LEDGER is not set.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return place_of(named)
    found = re.fullmatch(r"sqlite:///(.+)", mlflow.get_tracking_uri())
    if found is None:
        raise UsageError(
            f"Where is the ledger of releases? Set {VARIABLE} to the folder or URL that all "
            "machines of this MLflow server share, such as az://CONTAINER/ledger."
        )
    return Path(found[1]).absolute().parent / FOLDER


def model_place(model_name: str, *below: str) -> Place:
    """Return where the ledger keeps what it has of a model name."""
    if not re.fullmatch(r"\w[\w .-]*", model_name):
        raise UsageError(f"model_name={model_name}: use letters, digits, '.', '-', '_' and spaces.")
    folder = ledger_place() / model_name
    for name in below:
        folder = folder / name
    return folder


class Ledger:
    """The generations of one model name and stage."""

    def __init__(self, model_name: str, stage: str) -> None:
        self.model_name, self.stage = model_name, stage
        self._place = model_place(model_name, stage)

    def history(self) -> list[Generation]:
        """Return all generations, the oldest first, each checked to follow the one before.

        Raises:
            RegistryError: a record was altered, is missing, or belongs elsewhere.
        """
        if not folder_exists(self._place):
            return []
        try:
            commits = CommitLog(store_of(self._place)).history()
            found = [self._generation(commit) for commit in commits]
        except BrokenLogError as error:
            raise RegistryError(f"The ledger of {self.what} cannot be trusted. {error}") from None
        return found

    def head(self) -> Generation | None:
        """Return the newest generation, None where nobody ever held the stage.

        The whole chain is checked: a ledger is short, and what it guards is not.
        """
        history = self.history()
        return history[-1] if history else None

    def append(self, record: Record, after: Generation | None) -> Generation:
        """Commit a record as the next generation.

        Args:
            record: what to commit.
            after: the generation that it was decided on; None for the first.

        Raises:
            CommitConflict: somebody else decided meanwhile.
        """
        log = CommitLog(store_of(self._place, create=True))
        return self._generation(log.append(asdict(record), after.number if after else 0))

    @property
    def what(self) -> str:
        """Name it for a message."""
        return f"{self.model_name}, {self.stage}"

    def _generation(self, commit: Commit) -> Generation:
        """Read a commit; raises RegistryError where it is no record of this ledger."""
        try:
            record = RECORD.validate_python(commit.payload)
            restores, approvals = record.restores, record.approvals
            spoken = all(isinstance(one.get(name), str) for one in approvals for name in APPROVAL)
            if not (spoken and (restores is None or 1 <= restores < commit.number)):
                raise ValueError
        except ValueError:
            raise RegistryError(
                f"Generation {commit.number} of {self.what} is no record that this version "
                "reads: install the version that wrote it."
            ) from None
        told_of = (record.model_name, record.stage, record.predecessor)
        if told_of != (self.model_name, self.stage, commit.previous):
            raise RegistryError(
                f"Generation {commit.number} of {self.what} was written for "
                f"{record.model_name}, {record.stage}, or after another generation: it was put "
                "there by hand. Restore the ledger from a backup."
            )
        return Generation(commit.number, commit.digest, commit.time, record)
