"""Malicious models on the way that models take: as candidates, and in the place of a release."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from recsys.errors import ModelError
from registry.promote import PromoteConfig, run_promote
from registry.releases import Release, find_version, verified_model, versions_of
from registry.trust import trusted
from tests.registry.malicious import DATA_ATTACKS, LOGGED_ATTACKS, Attack, Payload
from tests.registry.malicious_contents import CLAIM_ATTACKS
from tests.registry.shop import candidate
from tests.stores import keep_below

AGAINST_FOLDERS = (*LOGGED_ATTACKS, *DATA_ATTACKS, *CLAIM_ATTACKS)
RULEBOOK = PromoteConfig(version=1).rulebook()


@dataclass(frozen=True)
class Scene:
    """A store with a release and a candidate that waits.

    Attributes:
        candidate: folder of the waiting candidate's logged model.
        release: folder of the release's.
        version: of the waiting candidate.
        holder: the release.
    """

    candidate: Path
    release: Path
    version: int
    holder: Release


@pytest.fixture(scope="module")
def scene(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place, previous = tmp_path_factory.mktemp("malicious"), mlflow.get_tracking_uri()
    shutil.copy(empty_database, place / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("MLFLOW_") or n == "RECSYS_LEDGER"]:
            patch.delenv(name)
        mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
        keep_below(place)
        holder = run_promote(PromoteConfig(version=candidate(1)))
        version = candidate(2)
        folders = [
            _folder(name, number)
            for name, number in (("recommender-candidates", version), ("recommender", 1))
        ]
        yield Scene(folders[0], folders[1], version, holder)
    mlflow.set_tracking_uri(previous)


def _folder(name: str, version: int) -> Path:
    source = find_version(name, version).source
    assert source is not None
    return Path(mlflow.artifacts.download_artifacts(source))


@pytest.fixture(params=AGAINST_FOLDERS, ids=str)
def attack(request: pytest.FixtureRequest) -> Attack:
    found: Attack = request.param
    return found


def spoil(folder: Path, attack: Attack, payload: Payload) -> None:
    """Alter a folder as an attack does."""
    target = folder if attack in LOGGED_ATTACKS else folder / "data" / "model"
    attack.build(target, payload)


@pytest.fixture
def restored(scene: Scene, tmp_path: Path) -> Iterator[None]:
    """Put both models back after the attack, and what it left beside them."""
    models = {"candidate": scene.candidate.parent, "release": scene.release.parent}
    for name, folder in models.items():
        shutil.copytree(folder, tmp_path / name)
    yield
    for name, folder in models.items():
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / name, folder)


@pytest.mark.timeout(60)
def test_a_malicious_candidate_is_refused(
    scene: Scene, attack: Attack, restored: None, tmp_path: Path
) -> None:
    payload = Payload(tmp_path / "canary")
    spoil(scene.candidate, attack, payload)
    with pytest.raises(ModelError, match=attack.refused):
        run_promote(PromoteConfig(version=scene.version))
    assert not payload.canary.exists()
    assert len(versions_of("recommender")) == 1
    assert trusted("recommender", "Production", RULEBOOK) == scene.holder


@pytest.mark.timeout(60)
def test_a_malicious_model_in_the_place_of_a_release_is_refused(
    scene: Scene, attack: Attack, restored: None, tmp_path: Path
) -> None:
    payload = Payload(tmp_path / "canary")
    spoil(scene.release, attack, payload)
    release = trusted("recommender", "Production", RULEBOOK)
    changed = "was changed after it was approved"
    with pytest.raises(ModelError, match=f"{attack.refused}|{changed}"), verified_model(release):
        pass
    assert not payload.canary.exists()
