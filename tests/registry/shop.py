"""Candidates without Spark: small saved models, real runs, real comparisons, in seconds."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from recsys import logged_models, tracking
from recsys.comparison import Difference
from recsys.metrics.intervals import Interval
from recsys.models import ALGORITHMS, arrays, files
from recsys.tracking import ALGORITHM_TAG, MODEL_DIGEST_TAG, RECIPE_TAG
from recsys.training import recipe
from recsys.view import artifact_address
from registry.candidates import DOSSIER_TAG, create_candidate
from registry.decisions import DECISION_FILE, to_json
from registry.evidence import Entrant
from registry.ledger import DOSSIER
from registry.policy import POLICY_FILE, Pairing, decide
from registry.promote import PromoteConfig
from registry.releases import DATASET_DIGEST, MODEL_DIGEST, candidates_of
from registry.reviewers import make_key
from registry.rollback import RollbackConfig
from registry.rulebook import read_policy
from tests.recsys.builders import history_of
from tests.registry.malicious import CUSTOMERS, ITEMS, LEARNED

DATASET = "d" * 64
METRICS = (
    *("ndcg_at_10", "replenish/ndcg_at_10", "coverage_at_10", "novelty_at_10"),
    "revenue_recall_at_10",
)
PARAMETERS = ALGORITHMS["als"].parameters_class()
RECIPE = recipe("als", PARAMETERS)


@dataclass(frozen=True)
class Rules:
    """A policy and reviewers of a test, as files.

    Attributes:
        policy: file.
        reviewers: file.
        keys: name → file of the private key.
    """

    policy: str
    reviewers: str
    keys: dict[str, str]

    def promote(self, version: int, **more: Any) -> PromoteConfig:
        """Return the parameters of a promotion under these rules."""
        files = {"policy": self.policy, "reviewers": self.reviewers}
        return PromoteConfig(**{"version": version, "reviewer": "rosa", **files, **more})

    def rollback(self, **more: Any) -> RollbackConfig:
        """Return the parameters of a rollback under these rules."""
        files = {"policy": self.policy, "reviewers": self.reviewers}
        return RollbackConfig(**{"reason": "sales fell", "reviewer": "rosa", **files, **more})


def rules(folder: Path, approvals: int, *names: str, **production: Any) -> Rules:
    """Write a policy that wants approvals, and a key for each reviewer.

    Args:
        folder: to write into.
        approvals: that Production wants.
        names: of the reviewers.
        production: more of what Production asks for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: folder / f"{name}.pem" for name in names}
    people = {name: {"keys": [make_key(file)]} for name, file in keys.items()}
    policy = read_policy(POLICY_FILE.name).model_dump(mode="json")
    policy["stages"]["Production"] |= {"approvals": approvals, **production}
    written = {"policy": policy, "reviewers": {"reviewers": people}}
    for name, values in written.items():
        # JSON is YAML.
        (folder / f"{name}.yaml").write_text(json.dumps(values))
    paths = (str(folder / f"{name}.yaml") for name in written)
    return Rules(*paths, {name: str(file) for name, file in keys.items()})


def saved_model(folder: Path, number: int) -> str:
    """Save a small model of its own digest; returns the digest."""
    history = history_of(folder / "history", [(0, 0, 9), (1, 1, 9)], CUSTOMERS, ITEMS, 10)
    (folder / "fitted").mkdir()
    for name, values in LEARNED["als"].items():
        arrays.write(folder / "fitted", name, values)
    header = files.Header("als", PARAMETERS, DATASET, 10, CUSTOMERS, ITEMS)
    trend = np.linspace(0.1, 1 / number, ITEMS, dtype=np.float32)
    return files.save(folder / "fitted", header, history, trend, folder / "model")


def candidate(number: int, model_name: str = "recommender", gain: float = 0.02) -> int:
    """Train, compare and register one model; returns the candidate's version.

    Args:
        number: tells one model from another; 1, 2, …
        model_name: registered model of the releases.
        gain: by which it beats popularity.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-shop-") as scratch:
        digest = saved_model(Path(scratch), number)
        with tracking.step_run("als", f"als {number}", {"number": number}) as trained:
            mlflow.set_tags({ALGORITHM_TAG: "als", MODEL_DIGEST_TAG: digest, RECIPE_TAG: RECIPE})
            logged = logged_models.log_model(
                Path(scratch) / "model", trained, {"model_digest": digest}
            )
    with tracking.step_run("compare", "compare", {}) as compared:
        dossier = f"<h1>Model {number} gains {gain}</h1>"
        mlflow.log_text(dossier, DOSSIER)
        told = decision(trained.info.run_id, digest, gain)
        mlflow.log_dict(told, DECISION_FILE)
        address = artifact_address(
            compared.info.experiment_id, compared.info.run_id, DOSSIER, host=""
        )
        tags = {
            MODEL_DIGEST: digest,
            DATASET_DIGEST: DATASET,
            ALGORITHM_TAG: "als",
            RECIPE_TAG: RECIPE,
            DOSSIER_TAG: address,
        }
        name = candidates_of(model_name)
        return create_candidate(
            name, trained.info.run_id, str(logged.model_id), told["sentence"], tags
        )


def decision(run_id: str, digest: str, gain: float) -> dict[str, Any]:
    """Return what `compare` writes of a challenger that beats the holder, or does not."""
    champion = entrant("0" * 32, "popularity", "c" * 64, RECIPE)
    challenger = entrant(run_id, "als", digest, RECIPE)
    same = {name: difference(0.0) for name in METRICS}
    metrics = {**same, METRICS[0]: difference(gain)}
    pairing = Pairing(champion, challenger, "discover", METRICS[0], metrics, [], {}, None)
    decided = decide(champion, [pairing], read_policy())
    return to_json(decided, METRICS[0], "Production", 1, {f"{run_id}/test": "a" * 64})


def entrant(run_id: str, name: str, digest: str, recipe_digest: str) -> Entrant:
    """Return a training run as it takes part in a comparison."""
    uri = f"models:/m-{run_id}"
    return Entrant(run_id, name, name, digest, uri, 0, "1", recipe_digest, "", {}, {})


def difference(value: float) -> Difference:
    """Return a difference that is known to a thousandth."""
    interval = Interval(value, value - 0.001, value + 0.001)
    return Difference(0.1, 0.1 + value, interval, 0.0005, 1000, 3, 2, 1)
