"""A small campaign from its retailer to an analyst's answers, all below one folder or URL.

python -m tests.deploy.azure_flow.campaign ROOT MODE
"""

import sys
from datetime import timedelta

from pyspark.sql import SparkSession

from deploy.measure.config import MeasureConfig
from deploy.measure.run import run_measure
from deploy.sql.__main__ import SqlConfig, run_sql
from experiments.ingest import IngestConfig, run_ingest, run_stream
from experiments.simulate import run_simulate
from recsys.data.continued import ContinueConfig
from recsys.data.globs import files_of
from recsys.data.simulate import SimulateConfig
from recsys.session import spark_session
from recsys.storage import make_folder, place_of, read_file, write_file
from tests.deploy.measure.shop import EPOCH, publish_campaign

CUSTOMERS, ITEMS, DAYS = 300, 100, 120
STATEMENT = """
SELECT segment_by, segment, metric, treatment, difference FROM campaign_results ORDER BY 1, 2, 3
"""


def run_campaign(root: str, mode: str, spark: SparkSession) -> None:
    """Simulate, publish, go on, ingest as a batch or as a stream, measure and ask."""
    raw, after, landing, lists, tables = (
        f"{root}/{name}" for name in ("raw", "after", "landing", "recommendations", "ingested")
    )
    market = SimulateConfig(output=raw, customers=CUSTOMERS, items=ITEMS, days=DAYS)
    run_simulate(market)
    end = (market.start + timedelta(days=DAYS) - EPOCH).days
    publish_campaign(lists, halves(), recommended(), start=end)
    run_simulate(
        ContinueConfig(output=after, continues=raw, recommendations=lists, effect=1.0, seed=8)
    )
    make_folder(place_of(landing))
    for number, file in enumerate(files_of(f"{root}/*/transactions-*.csv")):
        write_file(place_of(landing) / f"{number}.csv", read_file(file))
    config = IngestConfig(source=landing, output=tables, mapping="simulated", mode=mode)
    if mode == "batch":
        run_ingest(config, spark)
    else:
        run_stream(config, spark)
    run_measure(MeasureConfig(recommendations=lists, interactions=tables, segments="region"), spark)
    for asked, kind in (
        ({"statement": STATEMENT}, "csv"),
        ({"file": "campaign_effect"}, "parquet"),
    ):
        run_sql(SqlConfig(root=root, format=kind, output=f"{root}/answer.{kind}", **asked), spark)


def halves() -> dict[str, str]:
    """Return customer → arm, every second one held out."""
    return {f"{n:010d}": "control" if n % 2 else "treatment" for n in range(1, CUSTOMERS + 1)}


def recommended() -> dict[str, list[str]]:
    """Return treated customer → three items."""
    treated = (customer for customer, arm in halves().items() if arm == "treatment")
    return {c: [f"{1 + (int(c) + n) % ITEMS:06d}" for n in range(3)] for c in treated}


if __name__ == "__main__":
    run_campaign(*sys.argv[1:], spark_session("campaign", sys.argv[1]))
