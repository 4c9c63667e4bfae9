"""The session: what it says where Java is missing, and how work reaches the tasks."""

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.errors import RecsysError
from recsys.session import SETTINGS, check_java, even_tasks, run_tasks, spark_session


def test_without_java_the_message_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecsysError, match=r"needs Java 17 or newer: run `make setup`.*JAVA_HOME"):
        spark_session()


def test_a_wrong_java_home_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RecsysError, match=f"JAVA_HOME={tmp_path} holds no bin/java: correct it"):
        spark_session()


def test_java_is_found_by_java_home_or_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    check_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(java.parent))
    check_java()


def test_the_session_keeps_its_settings(spark: SparkSession) -> None:
    assert spark_session() is spark
    assert {key: spark.conf.get(key) for key in SETTINGS} == SETTINGS
    assert spark.conf.get("spark.driver.host") == "127.0.0.1"


def test_tasks_return_in_the_order_of_their_inputs(spark: SparkSession) -> None:
    assert run_tasks(spark, lambda n: n * 10, [3, 1, 2]) == [30, 10, 20]
    assert run_tasks(spark, lambda n: n, []) == []


def test_tasks_run_with_one_blas_thread_and_find_the_project(spark: SparkSession) -> None:
    def task(_: int) -> tuple[str | None, str]:
        from recsys.columns import ITEM_ID

        return os.environ.get("OPENBLAS_NUM_THREADS"), ITEM_ID

    assert run_tasks(spark, task, [0]) == [("1", "item_id")]


@pytest.mark.parametrize(
    ("worth", "tasks_a_core"), [(0, 1), (1, 1), (3, 1), (4, 2), (7, 3), (8, 4), (1000, 4)]
)
def test_work_is_shared_out_evenly(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, worth: int, tasks_a_core: int
) -> None:
    monkeypatch.setattr(type(spark.sparkContext), "defaultParallelism", 2)
    assert even_tasks(spark, worth) == 2 * tasks_a_core
