"""From a real campaign to its measured effect: a retailer that goes on as was planted."""

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from deploy.batch_score import BatchScoreConfig, run_batch_score
from deploy.measure.config import MeasureConfig
from deploy.measure.judged import Measured
from deploy.measure.run import run_measure
from deploy.pipeline import Outcome
from experiments.ingest import IngestConfig, run_ingest
from experiments.simulate import run_simulate
from recsys.data.continued import MARKER, ContinueConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(outcome: Outcome, place: Path, spark: SparkSession) -> str:
    """A campaign that holds out half of the customers."""
    file = place / "halves.yaml"
    file.write_text("name: halves\nhold_out: {share: 0.5, salt: halves}\nk: 5\n", "utf-8")
    output = place / "halves"
    config = BatchScoreConfig(
        interactions=str(place / "out" / "ingested"), strategy=str(file), output=str(output)
    )
    run_batch_score(config, spark)
    return str(output)


def follow(
    place: Path, published: str, name: str, effect: float, spark: SparkSession
) -> tuple[Measured, dict[str, dict[str, dict[str, float]]]]:
    """Let the retailer go on, ingest all, measure; return what was found and the truth."""
    folder = place / name
    folder.mkdir()
    (folder / "before").symlink_to(place / "raw")
    run_simulate(
        ContinueConfig(
            output=str(folder / "after"),
            continues=str(place / "raw"),
            recommendations=published,
            effect=effect,
        )
    )
    files, ingested = str(folder / "*" / "transactions-*.csv"), str(folder / "ingested")
    run_ingest(IngestConfig(source=files, output=ingested, mapping="simulated"), spark)
    config = MeasureConfig(
        recommendations=published, interactions=ingested, output=str(folder / "measured")
    )
    (found,) = run_measure(config, spark).found
    return found, json.loads((folder / "after" / MARKER).read_text("utf-8"))


def test_a_planted_effect_lies_in_the_interval(
    place: Path, published: str, spark: SparkSession
) -> None:
    found, truth = follow(place, published, "works", 1.0, spark)
    assert (found.days, found.void_reason) == (28, None)
    assert str(found.campaign.start) == truth["first_day"]
    for metric in ("orders_per_customer", "sales_per_customer"):
        row, planted = found.overall(metric), truth["treated"][metric]["difference"]
        assert row.low is not None and row.high is not None
        assert row.low < planted < row.high
    assert found.overall("orders_per_customer").verdict == "better"
    assert (found.overall("bought_recommended").treatment or 0) > 0


def test_where_nothing_was_planted_nothing_is_seen(
    place: Path, published: str, spark: SparkSession
) -> None:
    found, truth = follow(place, published, "placebo", 0.0, spark)
    assert truth["treated"]["orders_per_customer"]["difference"] == 0
    assert found.void_reason is None
    assert found.primary.verdict == "not seen"
    assert found.overall("orders_per_customer").verdict == "not seen"
