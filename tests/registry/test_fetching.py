"""Fetching a logged model's plain data: byte for byte, and refused where it is anything else."""

import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ModelError, UsageError
from recsys.models import files
from recsys.models.manifest import FileFacts
from registry.fetching import fetch
from tests.registry import malicious, malicious_contents
from tests.registry.malicious import Attack, Payload, log_model, logged_model, saved_model

QUICKLY = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact saved model."""
    return saved_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def original(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that MLflow logs for it."""
    return logged_model(model, tmp_path_factory.mktemp("logged") / "model")


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to alter."""
    return Path(shutil.copytree(original, tmp_path / "store" / "artifacts"))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refused(root: Path, target: Path, message: str) -> None:
    """Check that nothing usable is fetched, and nothing written beside where it belongs."""
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(ModelError, match=message):
        fetch(root.as_uri(), target)
    written = set(target.parent.rglob("*")) - set(before)
    assert all(target in (path, path.parent) for path in written)
    assert not (target / "manifest.json").exists()


# --- what is fetched


def test_a_logged_model_is_fetched_byte_for_byte_and_so_is_its_version(
    mlflow_store: str, model: Path, tmp_path: Path
) -> None:
    uri = log_model(model)
    version = mlflow.register_model(uri, "shop").version
    for number, address in enumerate((uri, f"models:/shop/{version}")):
        folder = tmp_path / f"fetched-{number}"
        assert fetch(address, folder) == files.check(folder) == files.digest_of(model)
        assert content(folder) == content(model)


def test_only_the_saved_models_own_files_are_fetched(
    root: Path, model: Path, tmp_path: Path
) -> None:
    fetch(root.as_uri(), tmp_path / "fetched")
    assert content(tmp_path / "fetched") == content(model)


def test_a_plain_path_is_an_address_too(root: Path, model: Path, tmp_path: Path) -> None:
    assert fetch(str(root), tmp_path / "fetched") == files.digest_of(model)


def test_a_model_that_was_approved_as_it_is_is_fetched(
    root: Path, model: Path, tmp_path: Path
) -> None:
    approved = files.checked(model)
    assert fetch(str(root), tmp_path / "fetched", approved.files) == approved.digest


def test_a_folder_that_is_not_empty_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not empty: name a new folder"):
        fetch(str(root), tmp_path)


# --- what is refused


@QUICKLY
@pytest.mark.parametrize("attack", malicious.LOGGED_ATTACKS, ids=str)
def test_an_attack_beside_the_saved_model_is_refused_by_name(
    root: Path, tmp_path: Path, attack: Attack
) -> None:
    payload = Payload(tmp_path / "canary")
    attack.build(root, payload)
    refused(root, tmp_path / "scratch" / "fetched", attack.refused)
    assert not payload.canary.exists()


@QUICKLY
@pytest.mark.parametrize(
    "attack", [*malicious.DATA_ATTACKS, *malicious_contents.CLAIM_ATTACKS], ids=str
)
def test_an_attack_inside_the_saved_model_is_refused_by_name(
    root: Path, tmp_path: Path, attack: Attack
) -> None:
    payload = Payload(tmp_path / "canary")
    attack.build(root / "data" / "model", payload)
    refused(root, tmp_path / "scratch" / "fetched", attack.refused)
    assert not payload.canary.exists()


def test_the_attacks_would_leave_a_canary_if_mlflow_loaded_them(
    original: Path, tmp_path: Path
) -> None:
    attacks = {attack.name: attack for attack in malicious.LOGGED_ATTACKS}
    folders = []
    for name in ("pickle", "pickle as a table", "code folder", "model from code", "YAML tag"):
        folder = Path(shutil.copytree(original, tmp_path / name / "artifacts"))
        attacks[name].build(folder, Payload(tmp_path / name / "canary"))
        folders.append(str(folder))
    loads = (
        "import sys, mlflow, yaml, contextlib\n"
        "for folder in sys.argv[1:-1]:\n"
        "    with contextlib.suppress(Exception): mlflow.pyfunc.load_model(folder)\n"
        "yaml.unsafe_load(open(sys.argv[-1] + '/MLmodel'))\n"
    )
    subprocess.run([sys.executable, "-c", loads, *folders], check=False, capture_output=True)
    left = {
        Path(folder).parent.name for folder in folders if (Path(folder).parent / "canary").exists()
    }
    assert left == {Path(folder).parent.name for folder in folders}


def test_a_name_that_a_terminal_would_obey_is_shown_harmless(root: Path, tmp_path: Path) -> None:
    (root / "\x1b]0;owned\x07.py").touch()
    refused(root, tmp_path / "scratch" / "fetched", r"holds \\x1b\]0;owned\\x07\.py, which")


# --- what was changed after it was approved


def test_bytes_that_were_replaced_with_a_manifest_that_fits_are_refused(
    root: Path, model: Path, tmp_path: Path
) -> None:
    approved = files.checked(model).files
    other = saved_model(tmp_path / "other", "als")
    table = other / "item_factors.parquet"
    table.write_bytes((other / "customer_factors.parquet").read_bytes())
    shutil.copy(table, root / "data" / "model")
    malicious.resign(root / "data" / "model")
    with pytest.raises(ModelError, match=r"item_factors\.parquet was changed after it was approv"):
        fetch(str(root), tmp_path / "fetched", approved)
    assert not content(tmp_path / "fetched")


@pytest.mark.parametrize("more", [True, False])
def test_a_file_more_or_less_than_approved_is_refused(
    root: Path, model: Path, tmp_path: Path, more: bool
) -> None:
    approved = dict(files.checked(model).files)
    if more:
        del approved["items.parquet"]
    else:
        approved["prices.parquet"] = FileFacts(1, "0" * 64)
    name = "items" if more else "prices"
    with pytest.raises(ModelError, match=rf"{name}\.parquet was changed after it was approved"):
        fetch(str(root), tmp_path / "fetched", approved)


def test_a_byte_that_was_flipped_is_refused(root: Path, model: Path, tmp_path: Path) -> None:
    file = root / "data" / "model" / "items.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"items\.parquet was changed after the model was saved"):
        fetch(str(root), tmp_path / "fetched", files.checked(model).files)
    assert not (tmp_path / "fetched" / "items.parquet").exists()


@settings(max_examples=100)
@given(
    which=st.integers(0, 99),
    where=st.integers(0, 9999),
    mask=st.integers(1, 255),
    cut=st.booleans(),
)
def test_damage_anywhere_is_refused_or_does_not_matter(
    original: Path,
    model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    which: int,
    where: int,
    mask: int,
    cut: bool,
) -> None:
    scratch = tmp_path_factory.mktemp("damaged")
    root = Path(shutil.copytree(original, scratch / "artifacts"))
    there = sorted(file for file in root.rglob("*") if file.is_file() and file.stat().st_size)
    file = there[which % len(there)]
    data = bytearray(file.read_bytes())
    data[where % len(data)] ^= mask
    file.write_bytes(data[: where % len(data)] if cut else data)
    try:
        digest = fetch(str(root), scratch / "fetched")
    except ModelError as error:
        assert str(root) in str(error)
    else:
        assert digest == files.check(scratch / "fetched") == files.digest_of(model)
