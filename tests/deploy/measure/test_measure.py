"""Measuring: one run over campaigns that can be judged and campaigns that cannot."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from deploy import history
from deploy.measure.config import MeasureConfig
from deploy.measure.judged import Measured
from deploy.measure.results import SCHEMA
from deploy.measure.run import ALREADY, MEASURED, Outcome, run_measure, run_plan
from deploy.publish import publish
from recsys.errors import DataError, UsageError
from recsys.published import published_table, read_manifest, run_of
from recsys.storage import CommitLog, store_of
from tests.deploy.measure.shop import (
    START,
    START_DAY,
    day,
    halves,
    publish_campaign,
    purchases,
    write,
)
from tests.stores import keep_below

CUSTOMERS, LIFT = 600, 0.6


@dataclass(frozen=True)
class Flow:
    """What one measurement left."""

    place: Path
    outcome: Outcome
    uri: str

    def found(self, strategy: str) -> Measured:
        return next(f for f in self.outcome.found if f.campaign.strategy == strategy)

    def config(self, **changes: object) -> MeasureConfig:
        values = {
            "recommendations": str(self.place / "recommendations"),
            "interactions": str(self.place / "ingested"),
            "segments": "region,region",
            "before_days": 50,
            **changes,
        }
        return MeasureConfig.checked(values, "test")

    @property
    def page(self) -> str:
        commit, _ = read_manifest(self.place / "campaign_results", 1)
        file = self.place / "campaign_results" / run_of(commit) / "report.html"
        return file.read_text("utf-8")


@pytest.fixture(scope="module")
def flow(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[Flow]:
    place = tmp_path_factory.mktemp("measure")
    output, arms = place / "recommendations", halves(CUSTOMERS)
    ids = list(arms)
    publish_campaign(output, arms, name="works", description="<script>alert(1)</script>")
    # Arms that have nothing to do with who buys more.
    other = {c: "control" if n % 4 < 2 else "treatment" for n, c in enumerate(ids)}
    publish_campaign(output, other, name="placebo")
    publish_campaign(output, arms, name="broken", share=0.4)
    publish_campaign(output, arms, name="young", start=START_DAY + 20)
    publish_campaign(output, arms, name="tomorrow", start=START_DAY + 28)
    regions = {c: "<b>East</b>" if n % 8 < 4 else "West" for n, c in enumerate(ids)}
    write(place / "ingested", purchases(CUSTOMERS, LIFT), regions)
    uri = f"sqlite:///{place / 'mlflow.db'}"
    (place / "mlflow.db").write_bytes(empty_database.read_bytes())
    previous = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        mlflow.set_tracking_uri(uri)
        keep_below(place)
        blank = Flow(place, Outcome(MEASURED, "", 0, ""), uri)
        yield Flow(place, run_measure(blank.config(), spark), uri)
        mlflow.set_tracking_uri(previous)


def test_a_known_effect_lies_in_the_interval_and_is_seen(flow: Flow) -> None:
    found = flow.found("works")
    orders = found.overall("orders_per_customer")
    assert orders.verdict == found.primary.verdict == "better"
    assert orders.relative_low is not None and orders.relative_high is not None
    assert orders.relative_low < LIFT < orders.relative_high
    assert orders.method == "CUPED"
    assert (orders.variance_reduction or 0) > 0.05
    # More orders, not larger ones.
    assert found.overall("basket_value").verdict == "not seen"
    assert (found.treated, found.control) == (300, 300)


def test_without_an_effect_none_is_seen(flow: Flow) -> None:
    found = flow.found("placebo")
    assert found.void_reason is None
    assert found.sample_before is not None
    assert found.primary.verdict == "not seen"
    assert "No effect on sales was seen in 28 days" in flow.page


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("broken", r"300 of 600 customers are in the control arm, 40\.0% were meant"),
        ("tomorrow", f"the campaign begins on {day(START_DAY + 28)}: ingest the purchases"),
    ],
)
def test_what_the_data_cannot_answer_is_void_and_said(
    flow: Flow, strategy: str, reason: str
) -> None:
    found = flow.found(strategy)
    assert re.search(reason, found.void_reason or "")
    told = [row for row in found.results if row.verdict != "descriptive"]
    assert {row.verdict for row in told} == {"void"}
    assert {row.difference for row in told} == {None}
    verdict = flow.page[flow.page.index(f'<h2><a href="#{strategy}">') - 80 :][:900]
    assert '<div class="verdict refused">' in verdict
    assert re.search(reason, verdict)


def test_a_window_that_is_not_over_is_measured_and_labelled(flow: Flow) -> None:
    found = flow.found("young")
    assert (found.days, found.primary.days, found.primary.window_days) == (8, 8, 28)
    assert found.primary.difference is not None
    assert "hold 8 of the window's 28 days" in found.notes[0]
    assert "the window is not over" in flow.page


def test_the_results_are_published_with_their_columns(flow: Flow) -> None:
    table = published_table(flow.place / "campaign_results", "campaign_results", 1)
    assert table.schema.equals(SCHEMA)
    frame = table.to_pandas()
    keys = ["strategy", "segment_by", "segment", "metric"]
    assert not frame.duplicated(keys).any()
    assert set(frame["segment_by"]) == {"all", "activity", "region"}
    works = frame[(frame["strategy"] == "works") & (frame["segment_by"] == "region")]
    assert set(works["segment"]) == {"<b>East</b>", "West"}
    sizes = works[works["metric"] == "sales_per_customer"]["treatment_customers"]
    assert sizes.sum() == 300
    _, manifest = read_manifest(flow.place / "campaign_results", 1)
    told = {one["strategy"]: one for one in manifest["facts"]["campaigns"]}
    assert told["works"]["scoring_run"] == "scored"
    assert told["works"]["start"] == START.isoformat()
    assert told["works"]["bought"]["guests"] == {"customers": 0, "orders": 1, "sales": 10}


def test_the_history_of_recommendations_refuses_results(flow: Flow) -> None:
    with pytest.raises(DataError, match="no recommendations: give the folder that batch_score"):
        history.main(history.HistoryConfig(output=str(flow.place / "campaign_results")))


def test_the_same_inputs_are_measured_once(flow: Flow, spark: SparkSession) -> None:
    again = run_measure(flow.config(), spark)
    assert (again.status, again.commit) == (ALREADY, 1)
    # Also when something else was measured since.
    store = store_of(again.output)
    publish(store, "runs/measure/other", [], {"campaigns": []}, 1)
    again = run_measure(flow.config(), spark)
    assert (again.status, again.commit) == (ALREADY, 1)
    assert len(CommitLog(store).history()) == 2


def test_the_page_names_the_facts_and_escapes_what_it_did_not_write(flow: Flow) -> None:
    page = flow.page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>East" not in page
    assert "&lt;b&gt;East&lt;/b&gt;" in page
    for fact in ("recommender/3", "commit 1", "scored", "600 customers: 300 treatment"):
        assert fact in page
    sentence = re.search(r"Customers who got recommendations spent [\d.]+ more each", page)
    assert sentence
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_the_run_shows_effects_and_links_to_the_scoring_run(flow: Flow) -> None:
    client = MlflowClient(flow.uri)
    experiment = client.get_experiment_by_name("recsys")
    assert experiment is not None
    (child,) = client.search_runs([experiment.experiment_id], "tags.`recsys.strategy` = 'works'")
    row = flow.found("works").primary
    metrics, tags = child.data.metrics, child.data.tags
    assert metrics["effect/sales_per_customer"] == pytest.approx(row.difference)
    assert metrics["effect/sales_per_customer_low"] == pytest.approx(row.low)
    assert metrics["effect/sales_per_customer_high"] == pytest.approx(row.high)
    assert tags["recsys.model_version"] == "recommender/3"
    assert tags["recsys.scoring_run"] == "scored"
    plots = {file.path for file in client.list_artifacts(child.info.run_id, "plots")}
    assert plots == {f"plots/{n}.png" for n in ("effects", "groups", "cumulative", "distribution")}
    parent = client.get_run(tags["mlflow.parentRunId"])
    assert parent.data.tags["recsys.commit"] == "1"
    assert parent.data.params["window_days"] == "28"
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files >= {"report.html", "results.parquet", "measure.json"}
    logged = pq.read_table(client.download_artifacts(parent.info.run_id, "results.parquet"))
    assert logged.equals(published_table(flow.place / "campaign_results", "campaign_results", 1))
    facts = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "measure.json")).read_text("utf-8")
    )
    assert facts["mlflow_run_id"] == parent.info.run_id


def test_a_plan_needs_fewer_customers_for_larger_effects(
    flow: Flow, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = []
    for effect in (0.05, 0.1):
        run_plan(flow.config(plan=True, effect=effect, strategy="placebo"), spark)
        (line,) = re.findall(r"sales per customer: ([\d,]+) customers", capsys.readouterr().out)
        needed.append(int(line.replace(",", "")))
    # Customers grow with the square of the effect's inverse.
    assert needed[0] / needed[1] == pytest.approx(4, rel=0.02)


def test_a_plan_for_more_days_than_there_are_is_refused(flow: Flow, spark: SparkSession) -> None:
    with pytest.raises(DataError, match=r"hold 84 days.* window_days=84 or fewer"):
        run_plan(flow.config(plan=True, window_days=365), spark)


def test_numbers_without_sense_are_refused(flow: Flow) -> None:
    for name in ("window_days", "before_days", "churn_days"):
        with pytest.raises(UsageError, match=name):
            flow.config(**{name: 10_000_000})
    with pytest.raises(UsageError, match="effect"):
        flow.config(effect=1e-9)


def test_a_start_without_a_strategy_is_refused(flow: Flow) -> None:
    with pytest.raises(UsageError, match="give its strategy or its commit too"):
        flow.config(start="2024-03-01").check()
    flow.config(start="2024-03-01", strategy="works").check()
