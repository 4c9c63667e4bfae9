"""The views of a whole flow are what their documentation says; the ten questions have answers."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from deploy.sql import catalogue, questions
from deploy.sql.answers import AnswersConfig, answered, run_answers
from deploy.sql.catalogue import OPENERS, opened, views
from deploy.sql.flow import Flow
from deploy.sql.query import query
from recsys.errors import DataError, UsageError


@pytest.mark.parametrize("name", OPENERS)
def test_the_schema_is_what_the_documentation_says(
    spark: SparkSession, flow: Flow, name: str
) -> None:
    view, frame = views()[name], opened(spark, flow, name)
    found = [(field.name, field.dataType.simpleString()) for field in frame.schema]
    documented = [(column, kind) for column, (kind, _) in view.columns.items()]
    assert found[: len(documented)] == documented
    assert (len(found) > len(documented)) <= view.more
    comments = [field.metadata.get("comment") for field in frame.schema][: len(documented)]
    assert comments == [meaning for _, meaning in view.columns.values()]
    assert frame.limit(1).count() == 1


def test_every_view_is_documented_and_can_be_opened() -> None:
    assert list(views()) == list(OPENERS)
    for name, view in views().items():
        assert all(meaning for _, meaning in view.columns.values())
        assert all(column in catalogue.described(name) for column in view.columns)
        assert name in catalogue.listed()


def test_an_unknown_view_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no view 'nix': choose one of interactions, items"):
        catalogue.described("nix")


def test_there_are_ten_questions_each_in_words() -> None:
    assert len(questions.names()) == 10
    for name in questions.names():
        assert questions.asked(name).endswith("?")
    with pytest.raises(UsageError, match="no question 'nix': choose one of best_customers"):
        questions.read("nix")


def test_an_answer_stands_on_the_page_as_a_table(spark: SparkSession, flow: Flow) -> None:
    count = query(spark, flow, questions.read("refused_rows")).count()
    page = answered(spark, flow, "refused_rows")
    assert page.startswith("### Which rows were refused, and why?\n")
    assert page.count("\n| ") == count + 2


def test_a_question_without_an_answer_is_an_error(
    spark: SparkSession, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "read", lambda name: "SELECT * FROM items WHERE false")
    with pytest.raises(DataError, match="The question live_model has no answer"):
        answered(spark, flow, "live_model")


def test_the_page_is_written_between_its_marks_and_nowhere_else(
    spark: SparkSession, flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "names", lambda: ["live_model"])
    page = tmp_path / "page.md"
    marks = [f"<!-- {name} -->\nold\n<!-- end of {name} -->" for name in ("views", "answers")]
    page.write_text("\n".join(["# Title", marks[0], "\nkept\n", marks[1], "end\n"]))
    root = str(Path(str(flow.interactions)).parent)
    run_answers(AnswersConfig(root=root, page=str(page)), spark)
    written = page.read_text()
    assert written.startswith("# Title\n<!-- views -->\n### interactions\n")
    assert "\nkept\n\n<!-- answers -->\n### Which model is live" in written
    assert "| Production | 1 | " in written
    assert written.endswith("<!-- end of answers -->\nend\n")
    assert "old" not in written.splitlines()


def test_the_live_model_is_the_one_that_was_promoted(
    spark: SparkSession, flow: Flow, place: Path
) -> None:
    (row,) = query(spark, flow, questions.read("live_model")).collect()
    assert (row["stage"], row["version"]) == ("Production", 1)
    metrics = "SELECT metrics['test/ndcg_at_10'] AS ndcg, algorithm FROM model_runs WHERE "
    trained = query(spark, flow, f"{metrics} algorithm = '{row['algorithm']}'").collect()
    assert row["test_ndcg_at_10"] in [run["ndcg"] for run in trained]


def test_shares_of_sales_add_up(spark: SparkSession, flow: Flow) -> None:
    rows = query(spark, flow, questions.read("repeat_sales")).collect()
    (total,) = query(spark, flow, "SELECT sum(sales) AS sales FROM interactions").collect()
    assert sum(row["sales"] for row in rows) == pytest.approx(total["sales"], abs=len(rows))
    assert sum(row["percent_of_sales"] for row in rows) == pytest.approx(100, abs=0.3)


def test_customers_and_audience_are_the_same_people(spark: SparkSession, flow: Flow) -> None:
    (row,) = query(
        spark,
        flow,
        """
        SELECT count(*) AS people, count(a.customer_id) AS asked, count(c.customer_id) AS known
        FROM audience a FULL JOIN customers c USING (customer_id)
        """,
    ).collect()
    assert row["people"] == row["asked"] == row["known"] > 200
