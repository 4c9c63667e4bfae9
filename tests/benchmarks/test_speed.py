import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks import data, speed
from benchmarks.data import Size
from benchmarks.report import runs_of
from benchmarks.speed import Settings
from recsys.data.dataset import Dataset
from recsys.errors import UsageError


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("bench")
    drawn = data.drawn(Size(customers=200, items=60, interactions=4_000), folder / "interactions")
    return data.prepared(spark, drawn, folder / "dataset")


@pytest.mark.slow
def test_ours_and_implicit_side_by_side(dataset: Dataset, tmp_path: Path) -> None:
    settings = Settings(1, 300, "1g", tasks=("als",), peers=("implicit",))
    speed.compare(dataset, settings, tmp_path, "tiny")
    found = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    ours, implicit = runs_of(found)

    assert (ours.failure, implicit.failure) == ("", "")
    assert list(ours.seconds) == list(implicit.seconds) == ["pack", "fit", "save"]
    assert ours.memory["jvm"] > 0 and ours.memory["workers"] > 0
    assert implicit.memory["jvm"] == implicit.memory["workers"] == 0
    assert found["data"]["interactions"] == speed.interactions(dataset)
    assert not list(tmp_path.glob("recsys-bench-*"))


@pytest.mark.slow
def test_everybody_scores_with_our_factors(dataset: Dataset, tmp_path: Path) -> None:
    settings = Settings(1, 300, "1g", tasks=("score",), peers=("mllib", "implicit", "product"))
    found = speed.compare(dataset, settings, tmp_path, "tiny")
    runs = {(run.task, run.name): run for run in runs_of(found)}

    assert [run.failure for run in runs.values()] == [""] * 7
    assert ("als", "ours") in runs
    for name in ("ours", "mllib"):
        assert runs["score", name].facts["customers_with_fewer_than_k"] == 0


@pytest.mark.slow
def test_a_process_over_the_limit_is_stopped_and_told(dataset: Dataset, tmp_path: Path) -> None:
    settings = Settings(2, 0.0, "1g", tasks=("item_item",), peers=("implicit",))
    found = speed.compare(dataset, settings, tmp_path, "tiny")

    assert [(run["name"], run["failure"]) for run in found["runs"]] == [
        ("ours", "stopped after 0 s"),
        ("implicit", "stopped after 0 s"),
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("--tasks", "als,cook"), ("--peers", "spotlight"), ("--repeats", "0")]
)
def test_an_unknown_choice_names_the_known_ones(name: str, text: str) -> None:
    with pytest.raises(SystemExit, match="choose from|at least 1"):
        speed.main([name, text])


def test_the_reason_of_a_failure_is_its_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\njava.lang.OutOfMemoryError: heap\n\tat java.base/java.lang.Thread\n")

    assert speed._reason(log) == "java.lang.OutOfMemoryError: heap"


def test_usage_error_is_what_a_child_that_cannot_draw_leads_to(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("not a folder")

    with pytest.raises(UsageError, match="could not be drawn"):
        speed._drawn("small", str(tmp_path), "1g")
