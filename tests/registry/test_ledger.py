"""The ledger: one winner a generation, and no record can be changed unseen."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier

import pytest

from recsys.errors import RegistryError, UsageError
from recsys.models.manifest import FileFacts
from recsys.storage import CommitConflict, CommitLog, store_of
from registry.ledger import PROMOTE, VARIABLE, Generation, Ledger, Record, ledger_place
from tests import azurite

RECORD = Record(
    action=PROMOTE,
    model_name="recommender",
    stage="Production",
    version=1,
    candidate=1,
    run_id="r",
    model_uri="models:/recommender/1",
    algorithm="als",
    recipe="c",
    model_digest="m",
    files={"model.json": FileFacts(3, "f" * 64)},
    dataset_digest="d",
    evidence={"dossier.html": "e"},
    speaks_of="this model",
    sentence="als beats popularity",
    policy_digest="p",
    reviewers_digest="q",
    approvals_wanted=0,
    approvals=({"reviewer": "anna", "comment": ""},),
    predecessor=None,
    restores=None,
    authors=("tina",),
    reviewer="rosa",
    reason="",
)


@pytest.fixture(params=["disk", "azurite"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the ledger lies."""
    where = str(tmp_path / "ledger")
    if request.param == "azurite":
        where = azurite.container(request.getfixturevalue("emulator"), monkeypatch) + "/ledger"
    monkeypatch.setenv(VARIABLE, where)
    return where


def follow(ledger: Ledger, **changes: object) -> Generation:
    head = ledger.head()
    return ledger.append(
        replace(RECORD, predecessor=head.digest if head else None, **changes), head
    )


def test_generations_follow_each_other(place: str) -> None:
    ledger = Ledger("recommender", "Production")
    assert ledger.head() is None
    written = [follow(ledger, version=version) for version in (1, 2, 3)]
    assert Ledger("recommender", "Production").history() == written
    assert ledger.head() == written[-1]
    assert [g.record.predecessor for g in written] == [None, *(g.digest for g in written[:-1])]
    assert Ledger("recommender", "Staging").head() is None


def test_of_many_at_once_one_wins(place: str) -> None:
    ledger = Ledger("recommender", "Production")

    def decide(number: int) -> bool:
        head = ledger.head()
        barrier.wait()
        try:
            mine = replace(RECORD, predecessor=head.digest if head else None, version=number)
            ledger.append(mine, head)
        except CommitConflict:
            return False
        return True

    for _ in range(5):
        barrier = Barrier(8)
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(decide, range(1, 9))) == 1
    assert len(ledger.history()) == 5


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, Path]:
    """Three generations on disk, and their folder."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    ledger = Ledger("recommender", "Production")
    for version in (1, 2, 3):
        follow(ledger, version=version)
    return ledger, tmp_path / "ledger" / "recommender" / "Production" / "_commits"


def test_a_changed_record_is_named(chain: tuple[Ledger, Path]) -> None:
    ledger, folder = chain
    file = folder / "00000002.json"
    file.write_text(file.read_text().replace("als beats", "als hardly beats"))
    with pytest.raises(RegistryError, match="cannot be trusted. Commit 2 was altered"):
        ledger.head()


def test_a_rewritten_record_breaks_the_chain(
    chain: tuple[Ledger, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, folder = chain
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other"))
    forged = Ledger("recommender", "Production")
    for version in (1, 9):
        follow(forged, version=version)
    other = tmp_path / "other" / "recommender" / "Production" / "_commits" / "00000002.json"
    (folder / "00000002.json").write_bytes(other.read_bytes())
    with pytest.raises(RegistryError, match="Commit 2 does not follow commit 1"):
        ledger.head()


def test_a_missing_record_is_named(chain: tuple[Ledger, Path]) -> None:
    ledger, folder = chain
    (folder / "00000002.json").unlink()
    with pytest.raises(RegistryError, match="Commit 2 is missing"):
        ledger.head()


def test_a_record_of_another_stage_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    follow(Ledger("recommender", "Staging"), stage="Staging")
    root = tmp_path / "ledger" / "recommender"
    (root / "Staging").rename(root / "Production")
    with pytest.raises(RegistryError, match="was written for recommender, Staging"):
        Ledger("recommender", "Production").head()


def test_a_record_of_another_version_is_refused(chain: tuple[Ledger, Path], tmp_path: Path) -> None:
    ledger, _ = chain
    head = ledger.head()
    assert head is not None
    log = CommitLog(store_of(tmp_path / "ledger" / "recommender" / "Production"))
    log.append({"format": 99}, head.number)
    with pytest.raises(RegistryError, match="no record that this version reads"):
        ledger.head()


@pytest.mark.parametrize(
    "changes",
    [
        {"restores": 77},
        {"restores": 0},
        {"restores": 4},
        {"restores": "x"},
        {"version": "one"},
        {"reason": None},
        {"approvals": 7},
        {"approvals": [7]},
        {"approvals": [{"reviewer": "anna"}]},
        {"approvals": [{"reviewer": "anna", "comment": None}]},
        {"authors": "joan"},
        {"files": {"model.json": {}}},
        {"evidence": {"dossier.html": 7}},
        {"more": 1},
    ],
)
def test_a_record_of_other_types_is_refused_by_name(
    chain: tuple[Ledger, Path], tmp_path: Path, changes: dict[str, object]
) -> None:
    ledger, _ = chain
    head = ledger.head()
    assert head is not None
    log = CommitLog(store_of(tmp_path / "ledger" / "recommender" / "Production"))
    log.append(asdict(replace(RECORD, predecessor=head.digest)) | changes, head.number)
    with pytest.raises(RegistryError, match="Generation 4 of recommender, Production is no record"):
        ledger.head()


def test_a_rollback_names_an_earlier_generation(chain: tuple[Ledger, Path]) -> None:
    ledger, _ = chain
    assert follow(ledger, restores=3).record.restores == 3


@pytest.mark.parametrize("name", ["../other", "", "a/b", ".hidden"])
def test_a_name_cannot_leave_the_ledger(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match="use letters, digits"):
        Ledger(name, "Production")


def test_it_lies_beside_mlflows_database(mlflow_store: str, tmp_path: Path) -> None:
    assert ledger_place() == tmp_path / "ledger"


def test_beside_a_server_it_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: "http://127.0.0.1:5000")
    with pytest.raises(UsageError, match=f"Set {VARIABLE} to the folder or URL"):
        ledger_place()


def test_a_record_is_plain_json(chain: tuple[Ledger, Path]) -> None:
    _, folder = chain
    told = json.loads((folder / "00000001.json").read_text())["payload"]
    assert told["files"] == {"model.json": {"bytes": 3, "sha256": "f" * 64}}
