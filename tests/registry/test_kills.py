"""Promote and rollback are killed at each step: scoring is right all along, the rerun converges."""

import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.errors import UsageError
from recsys.storage import store_of
from registry.deciding import was_cut_short
from registry.ledger import VARIABLE, Generation, Ledger
from registry.projection import moved
from registry.promote import PromoteConfig, run_promote
from registry.reconcile import ReconcileConfig, run_reconcile
from registry.releases import MODEL_DIGEST, releases_of, verified_model, versions_of
from registry.rollback import RollbackConfig, run_rollback
from registry.trust import trusted
from tests import azurite
from tests.registry.killed import AFTER, BEFORE, Kill, ended, start, warm
from tests.registry.shop import Rules, candidate, rules
from tests.registry.test_promote import approve, artifacts
from tests.stores import keep_below

NAME, STAGE = "recommender", "Production"
CLIENT = "mlflow:MlflowClient"
# Random moments of a kill on disk; on Azurite a third of them.
MOMENTS = int(os.environ.get("RECSYS_KILLS", "30"))
Config = PromoteConfig | RollbackConfig

BEGINNING = {
    "run made": Kill(AFTER, "recsys.tracking:run_of"),
}
COPYING = {
    "candidate fetched": Kill(BEFORE, "registry.promote:case_of"),
    "evidence read": Kill(AFTER, "registry.promote:case_of"),
    "release run made": Kill(AFTER, "registry.releases:run_of"),
    "model begun": Kill(AFTER, f"{CLIENT}.create_logged_model"),
    "model linked": Kill(AFTER, f"{CLIENT}.log_outputs"),
    "file written": Kill(AFTER, "shutil:copyfile", 2),
    "files written": Kill(AFTER, f"{CLIENT}.log_model_artifacts"),
    "model copied": Kill(AFTER, f"{CLIENT}.finalize_logged_model"),
    "release run ended": Kill(BEFORE, f"{CLIENT}.create_registered_model"),
    "model named": Kill(BEFORE, f"{CLIENT}.create_model_version"),
    "version registered": Kill(AFTER, f"{CLIENT}.create_model_version"),
    "dossier logged": Kill(AFTER, f"{CLIENT}.log_text", naming="dossier.html"),
    "evidence logged": Kill(AFTER, "registry.promote:log_evidence"),
}
COMMITTING = {
    "record written": Kill(BEFORE, "os:link"),
}
SHOWING = {
    "record linked": Kill(AFTER, "os:link"),
    "hint missing": Kill(BEFORE, "recsys.storage:CommitLog._hint"),
    "ledger committed": Kill(AFTER, "registry.ledger:Ledger.append"),
    "nothing shown": Kill(BEFORE, "registry.projection:show"),
    "stage set": Kill(AFTER, f"{CLIENT}.transition_model_version_stage"),
    "alias set": Kill(AFTER, f"{CLIENT}.set_registered_model_alias"),
    "described": Kill(AFTER, f"{CLIENT}.update_model_version"),
    "tagged by half": Kill(AFTER, f"{CLIENT}.set_model_version_tag", 3),
    "tagged": Kill(BEFORE, f"{CLIENT}.set_registered_model_tag"),
    "marked as shown": Kill(AFTER, f"{CLIENT}.set_registered_model_tag"),
    "history logged": Kill(AFTER, "registry.deciding:log_history"),
    "run marked": Kill(BEFORE, f"{CLIENT}.log_text", naming="record.json"),
}
# All is done, and the run still open.
ENDING = Kill(AFTER, f"{CLIENT}.log_text", naming="record.json")
PROMOTION = BEGINNING | COPYING | COMMITTING | SHOWING
VERIFYING = {
    "release verified": Kill(BEFORE, "registry.rollback:_signed"),
}
ROLLING = BEGINNING | VERIFYING | COMMITTING | SHOWING
STEPS = PROMOTION | ROLLING


@dataclass(frozen=True)
class Shop:
    """Two releases, the second in Production, and a third candidate, approved by anna.

    Attributes:
        folder: MLflow's database, artifacts and ledger.
        rules: a policy that wants one approval.
        candidates: versions.
    """

    folder: Path
    rules: Rules
    candidates: list[int]

    @property
    def promotion(self) -> PromoteConfig:
        """Release the third."""
        return self.rules.promote(self.candidates[2])

    @property
    def rollback(self) -> RollbackConfig:
        """Bring the first back."""
        return self.rules.rollback(reviewer="bert", key=self.rules.keys["bert"])

    def keep(self, name: str) -> None:
        """Keep everything as it is now."""
        self._copy(self.folder, self.folder / "kept" / name)

    def restore(self, name: str) -> None:
        """Put everything back; MLflow's open connections see it."""
        self._copy(self.folder / "kept" / name, self.folder)

    def score(self) -> int:
        """Do what scoring does before it scores; returns the version."""
        release = trusted(NAME, STAGE, self.rules.promote(1).rulebook())
        with verified_model(release):
            return release.version

    def killed(self, config: Config, at: Kill) -> bool:
        """Run a decision until it kills itself; returns whether it was committed."""
        before, log = len(generations()), self.folder / "killed.log"
        assert ended(start(config, log, at), log) == -signal.SIGKILL, log.read_text()
        return len(generations()) > before

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        for name in ("artifacts", "ledger"):
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(source / name, target / name)
        with (
            closing(sqlite3.connect(source / "mlflow.db")) as old,
            closing(sqlite3.connect(target / "mlflow.db")) as new,
        ):
            old.backup(new)


@pytest.fixture(scope="module")
def stocked(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder, previous = tmp_path_factory.mktemp("shop"), mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("MLFLOW_") or n == VARIABLE]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        shutil.copy(empty_database, folder / "mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        keep_below(folder)
        shop = Shop(folder, rules(folder / "rules", 1, "anna", "bert"), [])
        warm()
        for number in (1, 2, 3):
            shop.candidates.append(candidate(number))
            approve(shop.rules, shop.candidates[-1], "anna")
            if number < 3:
                run_promote(shop.rules.promote(shop.candidates[-1]))
        shop.keep("stocked")
        yield shop
    mlflow.set_tracking_uri(previous)


@pytest.fixture
def shop(stocked: Shop) -> Shop:
    """As it was in the beginning."""
    stocked.restore("stocked")
    return stocked


def generations(stage: str = STAGE) -> list[Generation]:
    return Ledger(NAME, stage).history()


def counted() -> int:
    """Return how many generations there are; a dead process's write may still be on its way."""
    count = len(generations())
    time.sleep(0.2)
    return count if len(generations()) == count else counted()


def again(config: Config) -> int:
    """Give the same command again; returns the version that holds the stage."""
    decide: Callable[[Any], Any] = (
        run_promote if isinstance(config, PromoteConfig) else run_rollback
    )
    return int(decide(config).version)


def state() -> dict[str, Any]:
    """Return what people and tools see of the releases."""
    client, model = MlflowClient(), MlflowClient().get_registered_model(NAME)
    experiment = mlflow.get_experiment_by_name(releases_of(NAME))
    assert experiment is not None
    place = Path(experiment.artifact_location.removeprefix("file://"))
    runs = client.search_runs([experiment.experiment_id])
    return {
        "ledger": [generation.digest for generation in generations()],
        "aliases": model.aliases,
        "model": model.tags,
        "versions": {
            int(v.version): (v.current_stage, v.description, v.run_id, v.source, v.tags)
            for v in versions_of(NAME)
        },
        "runs": {run.info.run_id: (run.data.tags, outputs(run.outputs)) for run in runs},
        "open": [run.info.run_id for run in runs if run.info.status != "FINISHED"],
        "models": {
            m.model_id: (str(m.status), m.source_run_id)
            for m in client.search_logged_models([experiment.experiment_id])
        },
        "files": {f.relative_to(place): f.read_bytes() for f in place.rglob("*") if f.is_file()},
    }


def outputs(found: Any) -> list[str]:
    return [model.model_id for model in found.model_outputs] if found else []


def at_stage(stage: str = STAGE) -> list[int]:
    return [int(v.version) for v in versions_of(NAME) if v.current_stage == stage]


def shows(version: int) -> None:
    """Everything in MLflow must say that a version holds the stage."""
    assert at_stage() == [version]
    alias = MlflowClient().get_model_version_by_alias(NAME, STAGE.lower())
    assert int(alias.version) == version
    head = generations()[-1]
    assert alias.tags[f"recsys.{STAGE.lower()}.record"] == head.digest
    assert head.record.reviewer in str(alias.description)
    assert moved(NAME) == []


def converged(generation: int, version: int, releases: int) -> None:
    """One generation more, one release a model, and nothing left half done."""
    found, seen = generations(), state()
    assert (len(found), found[-1].record.version) == (generation, version)
    shows(version)
    assert run_reconcile(ReconcileConfig()) == []
    assert len(seen["versions"]) == releases
    assert len({tags[MODEL_DIGEST] for *_, tags in seen["versions"].values()}) == releases
    of_versions = sorted(run_id for _, _, run_id, *_ in seen["versions"].values())
    assert sorted(seen["runs"]) == of_versions
    assert seen["open"] == []
    assert sorted(source for _, source in seen["models"].values()) == of_versions
    assert {status for status, _ in seen["models"].values()} == {"READY"}
    assert [len(models) for *_, models in seen["runs"].values()] == [1] * releases
    head = found[-1]
    logged = artifacts(head.record.run_id, f"evidence/{STAGE}-{head.number:04d}")
    promoted = {"dossier.html", "decision.json", "approvals.json", "record.json"}
    assert logged == (promoted if head.record.restores is None else {"record.json"})
    assert running() == []


def running() -> list[str]:
    """Return the runs that MLflow shows as still at work."""
    found = mlflow.search_runs(
        filter_string="attributes.status = 'RUNNING'",
        search_all_experiments=True,
        output_format="list",
    )
    return [run.info.run_id for run in found]


def check_kill(shop: Shop, config: Config, step: str, new: int, releases: int) -> None:
    """Kill a decision at a step, and do all that people and scoring may do next."""
    committed = shop.killed(config, STEPS[step])
    assert committed == (step in SHOWING)
    holder = new if committed else 2
    assert shop.score() == holder
    assert len(at_stage()) == 1
    shop.keep("killed")
    killed = state()
    changed = run_reconcile(ReconcileConfig())
    assert running() == []
    assert shop.score() == holder
    if committed:
        shows(new)
        assert again(config) == new
        converged(3, new, releases)
        shop.restore("killed")
    else:
        assert (changed, state()) == ([], killed)
    assert again(config) == new
    converged(3, new, releases)
    assert shop.score() == new


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", PROMOTION)
def test_a_promotion_killed_at_a_step(shop: Shop, step: str) -> None:
    check_kill(shop, shop.promotion, step, new=3, releases=3)
    settled = state()
    assert again(shop.promotion) == 3
    assert state() == settled


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", ROLLING)
def test_a_rollback_killed_at_a_step(shop: Shop, step: str) -> None:
    check_kill(shop, shop.rollback, step, new=1, releases=2)
    settled = state()
    with pytest.raises(UsageError, match="there is nothing to go back to"):
        again(shop.rollback)
    assert state() == settled


def test_a_rollback_killed_while_it_is_shown_does_not_go_back_twice(shop: Shop) -> None:
    run_promote(shop.promotion)
    assert shop.killed(shop.rollback, STEPS["stage set"])
    run_reconcile(ReconcileConfig())
    assert again(shop.rollback) == 2
    converged(4, 2, releases=3)
    # Once more is another decision.
    assert again(shop.rollback) == 1


def test_a_decision_killed_when_all_is_done_leaves_a_run_that_reconcile_closes(shop: Shop) -> None:
    assert shop.killed(shop.promotion, ENDING)
    assert len(running()) == 1
    converged(3, 3, releases=3)
    assert shop.killed(shop.rollback, ENDING)
    assert len(running()) == 1
    converged(4, 2, releases=3)


def test_a_rollback_whose_last_file_a_kill_left_empty_does_not_go_back_twice(shop: Shop) -> None:
    run_promote(shop.promotion)
    run_rollback(shop.rollback)
    [record] = (shop.folder / "artifacts").rglob(f"{STAGE}-0004/record.json")
    record.write_bytes(b"")
    assert again(shop.rollback) == 2
    assert record.read_bytes()
    assert again(shop.rollback) == 1


def test_a_promotion_from_stage_to_stage_killed_before_it_is_shown(shop: Shop) -> None:
    """The version still stands at Staging in MLflow, and nobody moved it by hand."""
    staging = shop.promotion.model_copy(update={"stage": "Staging"})
    run_promote(staging)
    assert shop.killed(shop.promotion, STEPS["nothing shown"])
    assert at_stage("Staging") == [3]
    assert shop.score() == 3
    assert trusted(NAME, "Staging", staging.rulebook()).version == 3
    assert "version 3 stands at Production" in run_reconcile(ReconcileConfig())
    assert again(shop.promotion) == 3
    converged(3, 3, releases=3)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", ["model named", "version registered", "nothing shown"])
def test_the_first_promotion_killed_at_a_step(
    stocked: Shop, mlflow_store: str, tmp_path: Path, step: str
) -> None:
    first = Shop(tmp_path, stocked.rules, [])
    version = candidate(1)
    approve(first.rules, version, "anna")
    config = first.rules.promote(version)
    if first.killed(config, STEPS[step]):
        assert first.score() == 1
    else:
        with pytest.raises(UsageError, match="No version of recommender holds Production"):
            first.score()
        assert run_reconcile(ReconcileConfig()) == []
    assert again(config) == 1
    converged(1, 1, releases=1)
    assert first.score() == 1


@pytest.fixture(params=["disk", "azurite"])
def moments(request: pytest.FixtureRequest, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> int:
    """The ledger lies on disk or in Blob storage; returns at how many moments to kill."""
    if request.param == "disk":
        return MOMENTS
    place = azurite.container(request.getfixturevalue("emulator"), monkeypatch) + "/ledger"
    kept = shop.folder / "ledger"
    for file in (file for file in kept.rglob("*") if file.is_file()):
        store_of(place).put(file.relative_to(kept).as_posix(), file.read_bytes())
    monkeypatch.setenv(VARIABLE, place)
    return MOMENTS // 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(shop: Shop, moments: int) -> None:
    """Promotions and rollbacks in turn, each started again until it comes to its end.

    It goes on until a kill fell on either side of the commit.
    """
    draw, held, releases = random.Random(11), [1, 2], 2
    seconds = {PromoteConfig: 0.0, RollbackConfig: 0.0}
    killed: list[bool] = []
    while len(killed) < moments or {*killed} != {True, False}:
        config: Config = shop.rollback
        if len(held) == 3:
            held.pop()
        else:
            releases += 1
            version = shop.candidates[2] if releases == 3 else candidate(releases)
            approve(shop.rules, version, "anna")
            config = shop.rules.promote(version)
            held.append(releases)
        killed += hunted(shop, config, held[-1], draw, seconds)
        converged(len(generations()), held[-1], releases)
        assert shop.score() == held[-1]


def hunted(
    shop: Shop, config: Config, new: int, draw: random.Random, seconds: dict[type[Config], float]
) -> list[bool]:
    """Start one decision until it is through, and kill it at random moments.

    Args:
        shop: with the releases.
        config: the decision.
        new: version that it gives the stage to.
        draw: the moments.
        seconds: kind of decision → how long one takes; 0 before the first, which is left alone.

    Returns:
        For each kill whether the decision was committed.
    """
    before, former, kind = len(generations()), shop.score(), type(config)
    found, log = list[bool](), shop.folder / "random.log"
    while len(generations()) == before or was_cut_short(generations()[-1]):
        process, began = start(config, log, None), time.monotonic()
        if seconds[kind]:
            process.join(draw.uniform(0.1, 1.0) * seconds[kind])
            process.kill()
            # Not for ever on a machine that has become slower.
            seconds[kind] *= 1.05
        code = ended(process, log)
        assert code in (0, -signal.SIGKILL), log.read_text()
        committed = counted() > before
        assert len(generations()) == before + committed
        assert shop.score() == (new if committed else former)
        assert len(at_stage()) == 1
        if code == 0:
            seconds[kind] = time.monotonic() - began
            break
        found.append(committed)
        if draw.random() < 0.3:
            run_reconcile(ReconcileConfig())
    return found
