"""MLflow's server is down: the release that was verified last scores, or nothing does."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from deploy.batch_score import PUBLISHED, BatchScoreConfig, Scored, run_batch_score
from deploy.pipeline import Outcome
from recsys import columns as c
from recsys import logged_models, tracking
from recsys.errors import ModelError, RegistryError
from recsys.published import published_table
from recsys.storage import CommitLog, store_of
from registry.candidates import create_candidate
from registry.policy import POLICY_FILE
from registry.promote import PromoteConfig, run_promote
from registry.releases import DATASET_DIGEST, MODEL_DIGEST, candidates_of, verified_model
from registry.trust import holder_of
from tests import mlflow_server

# Not minutes, as MLflow's client would try.
AT_ONCE = 60.0


@dataclass(frozen=True)
class Scene:
    """A table that was published while the server answered, which it does no more.

    Attributes:
        folder: of the table, the copies and the policies.
        interactions: to score.
        digest: of the model.
        spark: the session.
    """

    folder: Path
    interactions: str
    digest: str
    spark: SparkSession

    @property
    def output(self) -> str:
        return str(self.folder / "table")

    def policy(self, offline_days: float) -> str:
        """Write a policy that wants no evidence, and allows to do without the server."""
        file = self.folder / f"offline-{offline_days}.yaml"
        text = POLICY_FILE.read_text("utf-8")
        file.write_text(
            text.replace("offline_days: 0", f"gates: []\n    offline_days: {offline_days}")
        )
        return str(file)

    def score(self, slot: str, offline_days: float = 1) -> Scored:
        config = BatchScoreConfig(
            interactions=self.interactions,
            output=self.output,
            slot=slot,
            k=5,
            policy=self.policy(offline_days),
        )
        return run_batch_score(config, self.spark)

    def rows(self) -> list[dict[str, Any]]:
        """Read the table that readers see."""
        table = published_table(self.output).drop_columns(["scored_at"])
        order = [(c.CUSTOMER_ID, "ascending"), (c.RANK, "ascending")]
        return list(table.sort_by(order).to_pylist())

    def commits(self) -> int:
        return len(CommitLog(store_of(self.output)).history())


@pytest.fixture(scope="module")
def scene(
    outcome: Outcome, place: Path, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("offline")
    before, holder = mlflow.get_tracking_uri(), holder_of("recommender", "Production")
    found = Scene(folder, str(place / "out" / "ingested"), holder.digest, spark)
    with (
        pytest.MonkeyPatch.context() as patch,
        ExitStack() as server,
        verified_model(holder) as model,
    ):
        uri = server.enter_context(
            mlflow_server.running(folder / "mlflow.db", str(folder / "artifacts"))
        )
        patch.setenv("RECSYS_LEDGER", str(folder / "ledger"))
        patch.setenv("RECSYS_RELEASES", str(folder / "releases"))
        mlflow.set_tracking_uri(uri)
        with tracking.step_run("als", "als", {}) as run:
            logged = logged_models.log_model(model, run, {})
        tags = {MODEL_DIGEST: holder.digest, DATASET_DIGEST: holder.dataset_digest}
        name = candidates_of("recommender")
        version = create_candidate(name, run.info.run_id, str(logged.model_id), "", tags)
        run_promote(PromoteConfig(version=version, policy=found.policy(0)))
        assert found.score("monday", offline_days=0).status == PUBLISHED
        server.close()
        yield found
    mlflow.set_tracking_uri(before)


def test_the_release_that_was_verified_last_scores(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, commits, server = scene.rows(), scene.commits(), mlflow.get_tracking_uri()
    scored = scene.score("tuesday")
    assert (scored.status, scored.commit) == (PUBLISHED, commits + 1)
    assert scored.release.digest == scene.digest
    assert scene.rows() == rows
    said = capsys.readouterr().out
    assert f"MLflow's server at {server} does not answer: using the copy verified 0.0 days" in said
    assert mlflow.get_tracking_uri() == server


def test_meanwhile_the_run_is_logged_on_this_machine(scene: Scene) -> None:
    scored = scene.score("wednesday")
    store = scene.folder / "releases" / "offline"
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'recsys'")
    newest = client.search_runs([experiment.experiment_id])[0]
    assert newest.info.status == "FINISHED"
    assert newest.data.tags["recsys.commit"] == str(scored.commit)
    assert newest.data.params["slot"] == "wednesday"
    assert Path(newest.info.artifact_uri.removeprefix("file://")).is_relative_to(store)


def test_without_leave_it_fails_at_once_and_the_table_stands(scene: Scene) -> None:
    rows, commits, start = scene.rows(), scene.commits(), time.monotonic()
    with pytest.raises(RegistryError, match=r"does not answer, .* the policy allows 0 days"):
        scene.score("thursday", offline_days=0)
    assert time.monotonic() - start < AT_ONCE
    assert (scene.rows(), scene.commits()) == (rows, commits)


def test_a_changed_byte_in_the_copy_never_scores(scene: Scene) -> None:
    rows, commits = scene.rows(), scene.commits()
    file = scene.folder / "releases" / scene.digest / "items.parquet"
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    with pytest.raises(ModelError, match=r"items.parquet was changed"):
        scene.score("friday")
    file.write_bytes(whole)
    assert (scene.rows(), scene.commits()) == (rows, commits)


def test_a_table_that_was_published_before_the_failure_is_not_published_again(
    scene: Scene,
) -> None:
    commits = scene.commits()
    assert scene.score("monday").status == "already published"
    assert scene.commits() == commits
