"""One statement: read only, over views that are opened when they are named."""

from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from deploy.sql.flow import Flow, flow_of
from deploy.sql.query import in_words, query
from recsys.errors import DataError, UsageError
from tests.recsys.builders import Line, write_interactions

LINES = [
    Line("007", "0001", 100, basket="a"),
    Line("007", "0002", 200, basket="b"),
    Line(None, "0001", 201, basket="c"),
]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """A folder where only interactions, items and quarantine lie."""
    root = tmp_path_factory.mktemp("flow")
    write_interactions(root / "ingested" / "interactions", LINES)
    for name, table in {
        "items": {"item_id": ["0001", "0002"], "description": ["mug", "cup"], "Shelf": ["A", "B"]},
        "quarantine": {"StockCode": ["00X"], "reasons": [["non_product"]]},
    }.items():
        (root / "ingested" / name).mkdir()
        pq.write_table(pa.table(table), root / "ingested" / name / "part-0.parquet")
    return flow_of(str(root))


def test_ids_keep_their_leading_zeros(spark: SparkSession, flow: Flow) -> None:
    rows = query(spark, flow, "SELECT customer_id, item_id FROM interactions WHERE basket_id = 'a'")
    assert [tuple(row) for row in rows.collect()] == [("007", "0001")]


def test_names_in_subqueries_joins_and_any_case_are_found(spark: SparkSession, flow: Flow) -> None:
    rows = query(
        spark,
        flow,
        """
        WITH sold AS (SELECT item_id, count(*) AS n FROM Interactions GROUP BY item_id)
        SELECT i.description, i.shelf, n, (SELECT count(*) FROM quarantine) AS refused
        FROM sold JOIN ITEMS i USING (item_id) ORDER BY description
        """,
    )
    assert [tuple(row) for row in rows.collect()] == [("cup", "B", 1, 1), ("mug", "A", 2, 1)]


def test_no_view_stays_behind(spark: SparkSession, flow: Flow) -> None:
    query(spark, flow, "SELECT * FROM interactions JOIN items USING (item_id)").collect()
    with pytest.raises(UsageError):
        query(spark, flow, "SELECT * FROM interactions JOIN nowhere USING (item_id)")
    assert not {"interactions", "items"} & {table.name for table in spark.catalog.listTables()}


def test_describe_tells_each_columns_meaning(spark: SparkSession, flow: Flow) -> None:
    rows = {row["col_name"]: row for row in query(spark, flow, "DESCRIBE items").collect()}
    assert rows["item_id"]["comment"] == "the item"
    assert rows["Shelf"]["data_type"] == "string"


def test_show_tables_lists_the_views(spark: SparkSession, flow: Flow) -> None:
    names = [row["view"] for row in query(spark, flow, "SHOW TABLES").collect()]
    assert names[:3] == ["interactions", "items", "customers"]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO items SELECT * FROM items",
        "WITH a AS (SELECT 1) INSERT INTO items SELECT * FROM a",
        "FROM items INSERT INTO a SELECT * INSERT INTO b SELECT *",
        "INSERT OVERWRITE DIRECTORY '{folder}' USING csv SELECT 1",
        "DROP TABLE items",
        "-- quietly\nDROP VIEW items",
        "CREATE TABLE copy AS SELECT * FROM items",
        "CREATE TEMPORARY VIEW mine AS SELECT 1",
        "CREATE EXTERNAL TABLE t (a INT) USING parquet LOCATION '{folder}'",
        "DELETE FROM items",
        "UPDATE items SET item_id = ''",
        "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE",
        "TRUNCATE TABLE items",
        "SET spark.sql.ansi.enabled = false",
        "CACHE TABLE items",
        "ADD JAR 'x.jar'",
        "EXECUTE IMMEDIATE 'DROP TABLE items'",
        "BEGIN DROP TABLE items; END",
        "EXPLAIN SELECT 1",
    ],
)
def test_whatever_is_no_query_is_refused_and_changes_nothing(
    spark: SparkSession, flow: Flow, tmp_path: Path, statement: str
) -> None:
    tables = spark.catalog.listTables()
    with pytest.raises(UsageError, match=r"^[A-Z]+ is refused, the tables are read only: use SEL"):
        query(spark, flow, statement.format(folder=tmp_path / "written"))
    assert not (tmp_path / "written").exists()
    assert spark.catalog.listTables() == tables


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT 1 FORM x y", "Syntax error at or near 'x' (line 1, position 15)."),
        ("SELECT 1,\n  (2", "Syntax error at or near end of input (line 2, position 5)."),
        (
            "SELECT nix FROM interactions WHERE quantity > 1",
            "A column, variable, or function parameter with name `nix` cannot be resolved. "
            "Did you mean one of the following? [`",
        ),
        ("SELECT nosuch(1)", "Cannot resolve routine `nosuch` on search path"),
        ("SELECT * FROM nix", "There is no view 'nix': choose one of interactions, items, cust"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    spark: SparkSession, flow: Flow, statement: str, told: str
) -> None:
    with pytest.raises(UsageError) as error:
        query(spark, flow, statement)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)
    assert "SQLSTATE" not in str(error.value)


def test_an_error_while_rows_are_made_is_a_sentence_too(spark: SparkSession, flow: Flow) -> None:
    statement = "SELECT 1 / (quantity - quantity) FROM interactions"
    told = r"^Division by zero\. Use `try_divide` [^\n]* return NULL instead\.$"
    with pytest.raises(UsageError, match=told), in_words():
        query(spark, flow, statement).collect()


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("recommendations", "nothing was published in {root}/recommendations yet: run batch_score"),
        ("recommendations_history", "nothing was published in {root}/recommendations yet: run"),
        ("audience", "nothing was published in {root}/recommendations yet: run batch_score"),
        ("campaign_results", "nothing was measured in {root}/campaign_results yet: run measure"),
        ("promotions", "nothing was ever promoted to recommender: run promote"),
        ("model_runs", "sqlite:///{store} has no experiment recsys: run als, or set MLFLOW_TRACK"),
    ],
)
def test_a_part_that_is_missing_names_the_step_that_makes_it(
    spark: SparkSession,
    flow: Flow,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    view: str,
    told: str,
) -> None:
    monkeypatch.setenv("RECSYS_LEDGER", str(tmp_path / "ledger"))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{empty_database}")
    root = Path(str(flow.interactions)).parent
    try:
        with pytest.raises(DataError) as error:
            query(spark, flow, f"SELECT * FROM interactions CROSS JOIN {view}")
    finally:
        mlflow.set_tracking_uri(before)
    expected = f"{view}: {told.format(root=root, store=empty_database)}"
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize("view", ["interactions", "items", "customers", "quarantine"])
def test_without_ingest_its_views_say_so(spark: SparkSession, tmp_path: Path, view: str) -> None:
    with pytest.raises(DataError, match=f"{view}: nothing was ingested into .* yet: run ingest"):
        query(spark, flow_of(str(tmp_path)), f"TABLE {view}")


def test_an_own_interactions_table_has_no_quarantine(spark: SparkSession, tmp_path: Path) -> None:
    table = write_interactions(tmp_path / "mine", LINES)
    flow = flow_of(str(tmp_path), interactions=str(table))
    assert query(spark, flow, "SELECT * FROM items").count() == 2
    with pytest.raises(DataError, match="has no table quarantine: run ingest"):
        query(spark, flow, "SELECT * FROM quarantine")
