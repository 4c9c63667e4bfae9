"""The analyst's notebook over a small simulated retailer's flow, with a measured campaign."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode
from pyspark.sql import SparkSession

from deploy.measure.config import MeasureConfig
from deploy.measure.run import run_measure
from deploy.pipeline import PipelineConfig, run_pipeline
from experiments.ingest import IngestConfig, run_ingest
from experiments.simulate import run_simulate
from recsys.data.continued import ContinueConfig
from recsys.data.simulate import SimulateConfig
from tests.notebooks.kernel import (
    HTML,
    MARKDOWN,
    PNG,
    execute,
    own_store,
    read_notebook,
    shown,
)

NOTEBOOK = "customer_360_sql.ipynb"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The flow, the days after its campaign, and what came of it."""
    place = tmp_path_factory.mktemp("analyst")
    with own_store(place, RECSYS_OUTPUT=str(place / "out")):
        raw, after, out = (str(place / name) for name in ("days/raw", "days/after", "out"))
        run_simulate(SimulateConfig(output=raw, customers=300, items=120, days=200))
        flow = {"data": f"{place}/days/*/*.csv", "mapping": "simulated", "output": out, "k": 5}
        run_pipeline(PipelineConfig.checked(flow, "test"), spark)
        lists, tables = f"{out}/recommendations", f"{out}/ingested"
        run_simulate(ContinueConfig(output=after, continues=raw, recommendations=lists, effect=0.5))
        run_ingest(
            IngestConfig(source=f"{place}/days/*/*.csv", output=tables, mapping="simulated"), spark
        )
        run_measure(MeasureConfig(recommendations=lists, interactions=tables), spark)
        yield place


@pytest.fixture(scope="module")
def executed(place: Path) -> NotebookNode:
    notebook = read_notebook(NOTEBOOK)
    execute(notebook, timeout=240)
    return notebook


def test_every_cell_answers(executed: NotebookNode) -> None:
    for cell in ("plot-segments", "sales", "campaign"):
        [image] = shown(executed, cell, PNG)
        assert len(image) > 5_000
    [views] = shown(executed, "views", HTML)
    assert views.count("<tr") == 1 + 10
    [segments] = shown(executed, "segments", HTML)
    assert "<td>champions</td>" in segments


def test_one_customer_is_shown_with_purchases_and_recommendations(executed: NotebookNode) -> None:
    [text] = shown(executed, "customer", MARKDOWN)
    assert text.startswith("Customer **0")
    bought, recommended = shown(executed, "customer", HTML)
    assert bought.count("<tr") == 1 + 8
    assert recommended.count("<td>next_best_products</td>") == 5
    assert re.search("<td>(model|fold_in)</td>", recommended)


def test_the_live_model_and_its_comparison_are_told(executed: NotebookNode) -> None:
    [live] = shown(executed, "live", HTML)
    assert "<td>promote</td>" in live
    assert "<td>Production</td>" in live
