"""Saved models that somebody made to do harm, and such as were damaged by accident."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ModelError
from recsys.models import ALGORITHMS, contents, files, manifest
from recsys.storage import sha256_file
from tests.registry import malicious, malicious_contents
from tests.registry.malicious import Attack, Payload, resign, saved_model

QUICKLY = pytest.mark.timeout(30)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One intact saved model of each recommender."""
    return {name: saved_model(tmp_path_factory.mktemp(name), name) for name in ALGORITHMS}


@pytest.fixture
def copied(models: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(models[name], tmp_path / "logged" / "data" / "model"))

    return copy


def refused(attack: Attack, folder: Path, tmp_path: Path) -> None:
    """Check that an attack is refused by what it is, and that nothing of it ran."""
    payload = Payload(tmp_path / "canary")
    attack.build(folder, payload)
    with pytest.raises(ModelError, match=attack.refused):
        files.load(folder, tmp_path / "loaded")
    assert not payload.canary.exists()


def test_the_payload_would_leave_a_canary(tmp_path: Path) -> None:
    payload = Payload(tmp_path / "canary")
    pickle.loads(payload.pickle)
    assert payload.canary.exists()


@QUICKLY
@pytest.mark.parametrize("attack", malicious.DATA_ATTACKS, ids=str)
def test_an_attack_by_files_is_refused_before_one_is_opened(
    copied: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Attack,
) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a Parquet file was opened")

    monkeypatch.setattr(pq, "ParquetFile", opened)
    refused(attack, copied("als"), tmp_path)


@QUICKLY
@pytest.mark.parametrize("attack", malicious_contents.CLAIM_ATTACKS, ids=str)
def test_an_attack_by_content_is_refused_by_the_files_name(
    copied: Callable[[str], Path], tmp_path: Path, attack: Attack
) -> None:
    refused(attack, copied("als"), tmp_path)
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("attack", malicious_contents.UNPACKED_ATTACKS, ids=str)
def test_an_attack_that_shows_when_a_file_is_unpacked_is_refused(
    copied: Callable[[str], Path], tmp_path: Path, attack: Attack
) -> None:
    refused(attack, copied("als"), tmp_path)


@pytest.mark.parametrize("attack", malicious_contents.INDEX_ATTACKS, ids=str)
def test_an_index_that_would_lead_outside_is_refused(
    copied: Callable[[str], Path], tmp_path: Path, attack: Attack
) -> None:
    refused(attack, copied("item_item"), tmp_path)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_intact_model_of_each_recommender_is_loaded(
    models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    assert files.load(models[name], tmp_path / "loaded").algorithm == name
    found = files.checked(models[name])
    assert found.digest == files.check(models[name]) == files.digest_of(models[name])
    assert found.files == {
        file.name: manifest.FileFacts(file.stat().st_size, sha256_file(file))
        for file in models[name].iterdir()
        if file.name != "manifest.json"
    }


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_a_recommender_learns_is_declared(models: dict[str, Path], name: str) -> None:
    tables = {"items", "customers"}
    written = {file.stem for file in models[name].glob("*.parquet")} - tables
    assert written == set(ALGORITHMS[name].learned)


def test_a_model_larger_than_any_is_refused_by_its_header(
    copied: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MODEL_BYTES", 100)
    with pytest.raises(ModelError, match=r"items\.parquet would unpack from 1,052 bytes"):
        files.load(copied("als"), tmp_path / "loaded")


# --- damage at random


Change = tuple[int, int, int]
CHANGES = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 9999), st.integers(1, 255)), min_size=1, max_size=4
)


def damage(folder: Path, changes: list[Change]) -> set[str]:
    """Flip bits of one byte for each change; returns the names of the files."""
    there = sorted(folder.iterdir())
    for which, where, mask in changes:
        file = there[which % len(there)]
        data = bytearray(file.read_bytes())
        data[where % len(data)] ^= mask
        file.write_bytes(data)
    return {there[which % len(there)].name for which, _, _ in changes}


@settings(max_examples=150)
@given(name=st.sampled_from(sorted(ALGORITHMS)), changes=CHANGES)
def test_damage_anywhere_is_refused_or_undone(
    models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    changes: list[Change],
) -> None:
    folder = Path(shutil.copytree(models[name], tmp_path_factory.mktemp("damaged") / "model"))
    damage(folder, changes)
    try:
        found = files.check(folder)
    except ModelError as error:
        assert str(folder) in str(error)
    else:
        assert found == files.check(models[name])


@settings(max_examples=150)
@given(name=st.sampled_from(sorted(ALGORITHMS)), changes=CHANGES)
def test_damage_that_the_manifest_was_made_to_fit_is_refused_or_does_no_harm(
    models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    changes: list[Change],
) -> None:
    scratch = tmp_path_factory.mktemp("forged")
    folder = Path(shutil.copytree(models[name], scratch / "model"))
    damage(folder, changes)
    resign(folder)
    try:
        header = files.load(folder, scratch / "loaded")
    except ModelError as error:
        assert str(folder) in str(error)
    else:
        assert (header.customers, header.items) == (malicious.CUSTOMERS, malicious.ITEMS)
