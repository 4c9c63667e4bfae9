"""Small tables that lie as a flow leaves them, and campaign results beside the simulated flow."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from deploy.measure.results import CAMPAIGN_RESULTS, Result, as_table
from deploy.pipeline import Outcome
from deploy.publish import publish
from deploy.sql.flow import Flow, flow_of
from recsys.published import write_part
from recsys.storage import CommitLog, store_of

RESULT = Result(
    strategy="next_best_products",
    model_name="recommender",
    model_version=1,
    recommendations_commit=1,
    start=date(2024, 1, 1),
    window_days=28,
    days=28,
    segment_by="all",
    segment="all",
    metric="sales_per_customer",
    difference=1.5,
    verdict="not seen",
)


def publish_results(folder: Path, *rows: Result, **facts: Any) -> None:
    """Publish one measurement."""
    store = store_of(folder, create=True)
    head = CommitLog(store).head()
    number = head.number if head else 0
    run = f"runs/measure/{number}"
    part = write_part(store, run, CAMPAIGN_RESULTS, "part-0.parquet", as_table(rows))
    publish(store, run, [part], {"campaigns": [], **facts}, number)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two groups and of everyone."""
    folder = tmp_path_factory.mktemp("measured") / "campaign_results"
    groups = [replace(RESULT, segment_by="activity", segment=name) for name in ("heavy", "new")]
    publish_results(folder, RESULT, *groups)
    return folder


@pytest.fixture
def flow(outcome: Outcome, place: Path, results: Path) -> Flow:
    """The simulated retailer's flow, with campaign results."""
    return flow_of(str(place / "out"), results=str(results))
