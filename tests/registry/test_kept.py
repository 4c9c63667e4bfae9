"""Copies of verified releases, and scoring's leave to do without MLflow's server."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from recsys import tracking
from recsys.errors import ModelError, RegistryError
from registry import kept
from registry.kept import DAY, KEPT, answers, copied, is_offline, keep, root, without_server
from registry.ledger import VARIABLE, Generation, Ledger
from registry.policy import StageRules
from registry.releases import Release, verified_model
from tests import faulty_proxy
from tests.faulty_proxy import Fault
from tests.mlflow_server import free_port
from tests.registry.shop import saved_model
from tests.registry.test_ledger import follow

EVER = 1_000_000


@pytest.fixture
def down(mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that is down, to which MLflow is set."""
    monkeypatch.setenv("RECSYS_RELEASES", str(tmp_path / "releases"))
    monkeypatch.setattr(kept, "PAUSE", 0.0)
    server = f"http://127.0.0.1:{free_port()}"
    mlflow.set_tracking_uri(server)
    yield server
    mlflow.set_tracking_uri(mlflow_store)


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, Path]:
    """A saved model: its digest and its folder."""
    return saved_model(tmp_path, 1), tmp_path / "model"


def days(number: float) -> StageRules:
    return StageRules(approvals=0, offline_days=number)


def age(digest: str, of_days: float) -> None:
    then = time.time() - of_days * DAY
    os.utime(root() / digest, (then, then))


def change(folder: Path) -> None:
    file = folder / "items.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def release(digest: str) -> Release:
    uri = "models:/recommender/1"
    return Release("recommender", 1, "0" * 32, digest, "d" * 64, "als", "r" * 64, uri)


def test_a_verified_release_is_kept_whole(
    down: str, model: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = model
    keep(digest, folder)
    assert copied(digest, tmp_path / "copy") == digest
    for file in folder.iterdir():
        assert (tmp_path / "copy" / file.name).read_bytes() == file.read_bytes()


def test_a_store_on_this_disk_needs_no_copies(
    mlflow_store: str, model: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_RELEASES", str(tmp_path / "releases"))
    keep(*model)
    assert not root().exists()


def test_the_oldest_copies_are_forgotten(down: str, model: tuple[str, Path]) -> None:
    digests = [f"{number:064x}" for number in range(KEPT + 2)]
    root().mkdir()
    (root() / "offline").mkdir()
    age("offline", 300)
    for number, digest in enumerate(digests):
        keep(digest, model[1])
        age(digest, 100 - number)
    assert {f.name for f in root().iterdir()} == {*digests[2:], "offline"}


def test_a_copy_that_is_used_again_counts_as_new(down: str, model: tuple[str, Path]) -> None:
    keep(*model)
    age(model[0], 3)
    keep(*model)
    assert time.time() - (root() / model[0]).stat().st_mtime < DAY


def test_a_changed_copy_is_refused_until_the_release_is_verified_again(
    down: str, model: tuple[str, Path], tmp_path: Path
) -> None:
    keep(*model)
    change(root() / model[0])
    with pytest.raises(ModelError) as refused:
        copied(model[0], tmp_path / "copy")
    assert f"{root() / model[0] / 'items.parquet'} was changed" in str(refused.value)
    assert "Start MLflow's server and run again" in str(refused.value)
    keep(*model)
    assert copied(model[0], tmp_path / "again") == model[0]


def test_a_symlink_in_a_copy_is_refused(down: str, model: tuple[str, Path], tmp_path: Path) -> None:
    keep(*model)
    file = root() / model[0] / "items.parquet"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"items.parquet .* is not a file: it is a symlink"):
        copied(model[0], tmp_path / "copy")


def test_a_copy_that_was_never_made_is_missed_by_name(down: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="never verified the release aaaaaaaaaaaa: start"):
        copied("a" * 64, tmp_path / "copy")


def test_where_no_copy_can_be_kept_scoring_goes_on(
    down: str, model: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root().write_text("a file in the way")
    keep(*model)
    assert "no copy of the release is kept for when the server is down" in capsys.readouterr().out


def test_without_leave_nothing_is_scored(down: str, model: tuple[str, Path]) -> None:
    keep(*model)
    with (
        pytest.raises(RegistryError, match=r"verified here 0\.0 days ago.* allows 0 days"),
        without_server(model[0], days(0), "Production"),
    ):
        pytest.fail("scored")
    assert mlflow.get_tracking_uri() == down


@pytest.mark.parametrize(("allowed", "scores"), [(2, False), (4, True)])
def test_a_copy_may_be_as_old_as_the_policy_says(
    down: str, model: tuple[str, Path], allowed: float, scores: bool
) -> None:
    keep(*model)
    age(model[0], 3)
    if scores:
        with without_server(model[0], days(allowed), "Production") as is_down:
            assert is_down
        return
    with (
        pytest.raises(RegistryError, match=r"verified here 3\.0 days ago, and .* allows 2 days"),
        without_server(model[0], days(allowed), "Production"),
    ):
        pytest.fail("scored")


def test_a_copy_from_the_future_does_not_stay_fresh_for_ever(
    down: str, model: tuple[str, Path]
) -> None:
    keep(*model)
    age(model[0], -400)
    with (
        pytest.raises(RegistryError, match="verified here at a time that is still to come"),
        without_server(model[0], days(365), "Production"),
    ):
        pytest.fail("scored")


@pytest.fixture
def scored(down: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Generation]:
    """Two decisions, by the second of which this machine scored while the server was up."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    found = [follow(Ledger("recommender", "Production")) for _ in range(2)]
    kept.remember(found[-1])
    return found


def test_a_ledger_that_goes_on_is_no_less_trusted_offline(scored: list[Generation]) -> None:
    ledger = Ledger("recommender", "Production")
    assert kept.remembered(ledger) == scored
    third = follow(ledger)
    assert kept.remembered(ledger) == [*scored, third]


@pytest.mark.parametrize("numbers", [[2], [1, 2]])
def test_a_ledger_that_lost_what_scored_is_noticed_offline(
    scored: list[Generation], tmp_path: Path, numbers: list[int]
) -> None:
    """Also where another decision took the place of the lost one."""
    commits, ledger = tmp_path / "ledger/recommender/Production/_commits", "Production"
    for number in numbers:
        (commits / f"{number:08d}.json").unlink()
    for _ in range(2):
        with pytest.raises(RegistryError, match="Generation 2 of recommender, Production, by whic"):
            kept.remembered(Ledger("recommender", ledger))
        follow(Ledger("recommender", ledger), reason="instead")


def test_another_ledger_of_the_same_name_is_no_shorter_one(
    scored: list[Generation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "another"))
    assert kept.remembered(Ledger("recommender", "Production")) == []


def test_a_release_that_this_machine_never_saw_does_not_score(down: str) -> None:
    with (
        pytest.raises(RegistryError, match="verified here never"),
        without_server("a" * 64, days(365), "Production"),
    ):
        pytest.fail("scored")


def test_meanwhile_runs_are_logged_beside_the_copies(
    down: str, model: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(*model)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    for _ in range(2):
        with without_server(model[0], days(1), "Production"):
            assert is_offline()
            with tracking.step_run("batch_score", "batch_score", {"k": 5}) as run:
                mlflow.log_text("hello", "hello.txt")
            assert len(mlflow.MlflowClient().search_runs([run.info.experiment_id])) > 0
        assert (mlflow.get_tracking_uri(), is_offline()) == (down, False)
        assert os.environ["MLFLOW_RUN_ID"] == "0" * 32
    assert (root() / "offline" / "mlflow.db").is_file()
    assert len(list((root() / "offline" / "artifacts").rglob("hello.txt"))) == 2


def test_after_a_failure_the_server_is_asked_again(down: str, model: tuple[str, Path]) -> None:
    keep(*model)
    with (
        pytest.raises(RuntimeError, match="in between"),
        without_server(model[0], days(1), "Production"),
    ):
        raise RuntimeError("in between")
    assert (mlflow.get_tracking_uri(), is_offline()) == (down, False)


def test_offline_the_copy_is_what_scores(down: str, model: tuple[str, Path]) -> None:
    keep(*model)
    with (
        without_server(model[0], days(1), "Production"),
        verified_model(release(model[0])) as folder,
    ):
        assert (folder / "manifest.json").read_bytes() == (model[1] / "manifest.json").read_bytes()


def test_another_model_in_the_copys_place_never_scores(down: str, model: tuple[str, Path]) -> None:
    other = "a" * 64
    keep(other, model[1])
    with (
        without_server(other, days(1), "Production"),
        pytest.raises(ModelError, match="is not the model that was registered"),
        verified_model(release(other)),
    ):
        pytest.fail("scored")


def test_a_store_on_this_disk_is_never_done_without(mlflow_store: str) -> None:
    with without_server("a" * 64, days(365), "Production") as is_down:
        assert not is_down
        assert mlflow.get_tracking_uri() == mlflow_store


def test_a_password_in_the_servers_address_is_not_told(
    down: str, model: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.set_tracking_uri(down.replace("//", "//scorer:canary-of-a-password@"))
    keep(*model)
    with (
        pytest.raises(RegistryError, match="does not answer") as refused,
        without_server(model[0], days(0), "Production"),
    ):
        pytest.fail("scored")
    with without_server(model[0], days(1), "Production"):
        pass
    assert "canary" not in f"{refused.value} {capsys.readouterr().out}"


@pytest.mark.parametrize(("status", "is_there"), [(412, True), (503, False)])
def test_a_server_that_says_no_is_there_and_a_broken_one_is_not(
    down: str, status: int, is_there: bool
) -> None:
    with faulty_proxy.before(down) as proxy:
        proxy.fault = Fault("/health", status, EVER, "GET")
        assert answers(f"http://127.0.0.1:{proxy.port}") == is_there


def test_a_server_may_answer_at_the_second_try(down: str) -> None:
    with (
        faulty_proxy.before(down) as server,
        faulty_proxy.before(f"http://127.0.0.1:{server.port}") as proxy,
    ):
        server.fault = Fault("/health", 412, EVER, "GET")
        proxy.fault = Fault("/health", 503, 1, "GET")
        assert answers(f"http://127.0.0.1:{proxy.port}")
        assert proxy.fault.seen == 1
