import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.cluster.rendezvous import Rendezvous, clean
from deploy.cluster.spark_cluster import write_settings
from deploy.cluster.task import NodeTask
from recsys.errors import UsageError
from tests import azurite

JOB = "nightly:job-3"


def test_nobody_is_there_before_the_first_driver(tmp_path: Path) -> None:
    assert Rendezvous(str(tmp_path), JOB).newest() is None


def test_a_driver_that_comes_back_has_the_next_epoch(tmp_path: Path) -> None:
    Rendezvous(str(tmp_path), JOB).take_over("spark://a:1", "one")
    second = Rendezvous(str(tmp_path), JOB).take_over("spark://b:2", "two")

    assert second.number == 2
    assert Rendezvous(str(tmp_path), JOB).newest() == second
    assert (tmp_path / "jobs" / "nightly-job-3").is_dir()


def test_jobs_do_not_meet(tmp_path: Path) -> None:
    Rendezvous(str(tmp_path), "a").take_over("spark://a:1", "one")

    assert Rendezvous(str(tmp_path), "b").newest() is None


def test_drivers_at_once_get_an_epoch_each(emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = azurite.container(emulator, monkeypatch)

    def take_over(number: int) -> int:
        return Rendezvous(url, JOB).take_over(f"spark://a:{number}", "s").number

    with ThreadPoolExecutor(3) as pool:
        epochs = list(pool.map(take_over, range(3)))

    assert sorted(epochs) == [1, 2, 3]
    clean(url, JOB)
    assert Rendezvous(url, JOB).newest() is None


def test_the_secret_lies_in_a_file_of_this_user_alone(tmp_path: Path) -> None:
    folder = write_settings(tmp_path / "spark", "s3cret", "8g")
    write_settings(tmp_path / "spark", "another", "8g")

    file = folder / "spark-defaults.conf"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    lines = file.read_text().splitlines()
    assert "spark.authenticate true" in lines
    assert "spark.authenticate.secret another" in lines
    assert "spark.executor.memory 8g" in lines


def test_what_is_no_task_of_batch_says_so() -> None:
    with pytest.raises(UsageError, match=r"AZ_BATCH_JOB_ID is not set\): submit with"):
        NodeTask.from_environment({})
