"""What was published is read by its commits."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from deploy.publish import publish
from deploy.sql.flow import flow_of
from deploy.sql.query import query
from recsys import schemas
from recsys.errors import DataError
from recsys.published import AUDIENCE, RECOMMENDATIONS, run_of, write_part
from recsys.storage import CommitLog, Place, store_of
from tests.deploy.sql.conftest import RESULT, publish_results


def score(folder: Place, strategy: str, items: Iterable[str]) -> int:
    """Publish one customer's list and return the commit's number."""
    store = store_of(folder, create=True)
    head = CommitLog(store).head()
    number = head.number if head else 0
    run, now = f"runs/{strategy}/{number}", datetime(2024, 1, 1, tzinfo=UTC)
    row: dict[str, Any] = {"customer_id": "007", "score": 1.0, "source": "model", "because": ["a"]}
    row |= {"strategy": strategy, "model_name": "m", "model_version": 1, "scored_at": now}
    rows = [row | {"rank": rank, "item_id": item} for rank, item in enumerate(items, 1)]
    asked = [{"customer_id": "007", "arm": "treatment", "items": len(rows), "shortfall": None}]
    parts = [
        write_part(store, run, table, "part-0.parquet", pa.Table.from_pylist(content, schema))
        for table, content, schema in (
            (RECOMMENDATIONS, rows, schemas.RECOMMENDATIONS),
            (AUDIENCE, asked, schemas.AUDIENCE),
        )
    ]
    return publish(store, run, parts, {"strategy": {"name": strategy}}, number).number


def asked(spark: SparkSession, root: Path, statement: str, **places: str) -> list[tuple[Any, ...]]:
    rows = query(spark, flow_of(str(root), **places), statement).collect()
    return [tuple(row) for row in rows]


ITEMS = "SELECT strategy, commit, item_id FROM recommendations ORDER BY ALL"


def test_a_view_follows_a_new_commit_and_left_overs_are_never_seen(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "recommendations"
    score(folder, "raise", ["01"])
    assert asked(spark, tmp_path, ITEMS) == [("raise", 1, "01")]
    store = store_of(folder)
    killed = pa.Table.from_pylist([], schemas.RECOMMENDATIONS)
    write_part(store, "runs/raise/0", RECOMMENDATIONS, "part-9.parquet", killed)
    score(folder, "raise", ["02"])
    assert asked(spark, tmp_path, ITEMS) == [("raise", 2, "02")]


def test_each_strategy_has_its_newest_commit(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "recommendations"
    for strategy, item in (("raise", "01"), ("win_back", "02"), ("raise", "03")):
        score(folder, strategy, [item])
    assert asked(spark, tmp_path, ITEMS) == [("raise", 3, "03"), ("win_back", 2, "02")]
    arms = asked(spark, tmp_path, "SELECT strategy, commit, arm, items FROM audience ORDER BY ALL")
    assert arms == [("raise", 3, "treatment", 1), ("win_back", 2, "treatment", 1)]
    history = "SELECT commit, item_id FROM recommendations_history ORDER BY ALL"
    assert asked(spark, tmp_path, history) == [(1, "01"), (2, "02"), (3, "03")]


def test_a_folder_a_strategy_is_read_too(spark: SparkSession, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        score(folder, f"for_{folder.name}", ["01"])
    found = asked(spark, tmp_path, ITEMS, recommendations=", ".join(map(str, folders)))
    assert found == [("for_a", 1, "01"), ("for_b", 1, "01")]


def test_the_history_has_what_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "recommendations"
    score(folder, "raise", ["01"])
    score(folder, "raise", ["02"])
    first = CommitLog(store_of(folder)).read(1)
    for file in (folder / run_of(first)).rglob("*.*"):
        file.unlink()
    history = "SELECT commit, item_id FROM recommendations_history"
    assert asked(spark, tmp_path, history) == [(2, "02")]


def test_folders_that_share_their_results_do_not_hide_each_other(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "campaign_results"
    for digest, difference in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        row = replace(RESULT, difference=difference)
        told = {"strategy": row.strategy, "recommendations_digest": digest}
        publish_results(folder, row, campaigns=[told])
    statement = "SELECT difference FROM campaign_results ORDER BY difference"
    assert asked(spark, tmp_path, statement) == [(2.0,), (3.0,)]


def delete_tables(folder: Place, number: int) -> None:
    """Delete what a commit points to, as `collect` does."""
    run = Path(str(folder)) / run_of(CommitLog(store_of(folder)).read(number))
    for file in run.rglob("*.*"):
        file.unlink()


def test_a_strategy_whose_tables_were_deleted_is_left_out_and_said(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recommendations"
    score(folder, "gone", ["01"])
    score(folder, "raise", ["02"])
    delete_tables(folder, 1)
    assert asked(spark, tmp_path, ITEMS) == [("raise", 2, "02")]
    assert asked(spark, tmp_path, "SELECT count(*) FROM audience") == [(1,)]
    said = f"gone is left out, its tables in {folder} were deleted: run batch_score.\n"
    assert capsys.readouterr().err == 2 * said


@pytest.mark.parametrize(
    "view", ["recommendations", "recommendations_history", "audience", "campaign_results"]
)
def test_a_view_without_any_tables_left_says_so(
    spark: SparkSession, tmp_path: Path, view: str
) -> None:
    score(tmp_path / "recommendations", "gone", ["01"])
    publish_results(tmp_path / "campaign_results", RESULT)
    for folder in ("recommendations", "campaign_results"):
        delete_tables(tmp_path / folder, 1)
    with pytest.raises(DataError, match=f"^{view}: all of its tables were deleted: run the step"):
        query(spark, flow_of(str(tmp_path)), f"TABLE {view}")


def test_results_are_not_taken_for_recommendations(spark: SparkSession, tmp_path: Path) -> None:
    publish_results(tmp_path / "campaign_results", RESULT)
    flow = flow_of(str(tmp_path), recommendations=str(tmp_path / "campaign_results"))
    with pytest.raises(DataError, match="holds no recommendations: give what batch_score publ"):
        query(spark, flow, "TABLE recommendations")


def test_a_folders_name_is_no_pattern(spark: SparkSession, tmp_path: Path) -> None:
    for root in ("a?b", "a b", "a#b"):
        score(tmp_path / root / "recommendations", "raise", ["01"])
        publish_results(tmp_path / root / "campaign_results", RESULT)
    for view in ("recommendations", "audience", "campaign_results"):
        assert asked(spark, tmp_path / "a?b", f"SELECT count(*) FROM {view}") == [(1,)]


@pytest.mark.parametrize(
    ("view", "step"),
    [("recommendations", "publish again with batch_score"), ("campaign_results", "run measure")],
)
def test_a_changed_manifest_names_the_step_that_makes_it_anew(
    spark: SparkSession, tmp_path: Path, view: str, step: str
) -> None:
    score(tmp_path / "recommendations", "raise", ["01"])
    publish_results(tmp_path / "campaign_results", RESULT)
    [manifest] = (tmp_path / view / "runs").rglob("_manifest-*.json")
    manifest.write_text(f"{manifest.read_text()} ")
    told = f"^{view}: The manifest of commit 1 is missing or was changed: {step}"
    with pytest.raises(DataError, match=told):
        query(spark, flow_of(str(tmp_path)), f"TABLE {view}")


def test_results_are_those_of_the_newest_measurement(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "campaign_results"
    second = replace(RESULT, recommendations_commit=2, difference=2.0)
    publish_results(folder, RESULT, replace(RESULT, metric="churn"))
    publish_results(folder, second)
    publish_results(folder, replace(RESULT, difference=3.0))
    statement = (
        "SELECT recommendations_commit, metric, difference FROM campaign_results ORDER BY ALL"
    )
    assert asked(spark, tmp_path, statement) == [
        (1, "sales_per_customer", 3.0),
        (2, "sales_per_customer", 2.0),
    ]
