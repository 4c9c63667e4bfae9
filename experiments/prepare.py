"""Cut interactions into windows (train, validation, test), index the ids, and pack a dataset.

python -m experiments.prepare --interactions out/ingested --output out/dataset
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from pydantic import Field
from pyspark.sql import SparkSession

from recsys import cli, tracking
from recsys.data.dataset import Dataset, window_names
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from recsys.progress import say, stage
from recsys.session import spark_session
from recsys.storage import fetched, place_of


class PrepareConfig(Split):
    """Parameters of `prepare`."""

    interactions: str = Field(description="folder that ingest wrote")
    output: str = Field(description="folder to write the dataset to")


def run_prepare(config: PrepareConfig, spark: SparkSession) -> Dataset:
    """Write the dataset and log its facts."""
    split = Split(**config.model_dump(include=set(Split.model_fields)))
    with tracking.step_run("prepare", "prepare", config.model_dump()), stage("prepare"):
        tables = read_tables(spark, config.interactions)
        dataset = prepare(spark, tables, place_of(config.output), split)
        tracking.log_dataset(dataset, "prepare")
        mlflow.log_artifact(str(fetched(dataset.folder / "dataset.json")))
        facts, known = dataset.facts, dataset.test.history
        say(f"  {_windows_line(facts, window_names(split.windows))}")
        say(
            f"  {known.customers:,} customers, {known.items:,} items; "
            f"of the test window's customers {facts['test_cold_customer_share']:.1%} are new"
        )
        say(f"  digest {dataset.digest[:12]}, dataset in {config.output}")
        return dataset


def _windows_line(facts: Mapping[str, Any], windows: Sequence[str]) -> str:
    """Say until when each window lasts, and how many rows it has."""
    ends = [*(facts[f"{name}_cut"] for name in windows[1:]), facts["end"]]
    lasts = (f"{name} until {end[:10]}" for name, end in zip(windows, ends, strict=True))
    rows = " + ".join(f"{facts[f'{name}_rows']:,}" for name in windows)
    return f"{', '.join(lasts)}: {rows} rows"


def main(config: PrepareConfig) -> None:
    """Run the step in a session of its own."""
    run_prepare(config, spark_session("prepare", config.interactions, config.output))


if __name__ == "__main__":
    cli.run(main, PrepareConfig, __doc__, "python -m experiments.prepare")
