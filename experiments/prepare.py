"""Cut interactions into train, validation and test, index the ids, and pack them as a dataset.

python -m experiments.prepare --interactions out/ingested --output out/dataset
"""

from pathlib import Path

import mlflow
from pydantic import Field
from pyspark.sql import SparkSession

from recsys import cli, tracking
from recsys.data.dataset import Dataset
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from recsys.progress import say, stage
from recsys.session import spark_session


class PrepareConfig(Split):
    """Parameters of `prepare`."""

    interactions: str = Field(description="folder that ingest wrote")
    output: str = Field(description="folder to write the dataset to")


def run_prepare(config: PrepareConfig, spark: SparkSession) -> Dataset:
    """Write the dataset and log its facts."""
    split = Split(test_days=config.test_days, validation_days=config.validation_days)
    with tracking.step_run("prepare", "prepare", config.model_dump()), stage("prepare"):
        dataset = prepare(
            spark, read_tables(spark, config.interactions), Path(config.output), split
        )
        tracking.log_dataset(dataset, "prepare")
        mlflow.log_artifact(str(dataset.path / "dataset.json"))
        facts = dataset.facts
        say(
            f"  train until {facts['validation_cut'][:10]}, validation until "
            f"{facts['test_cut'][:10]}, test until {facts['end'][:10]}: "
            f"{facts['train_rows']:,} + {facts['validation_rows']:,} + {facts['test_rows']:,} rows"
        )
        say(
            f"  {facts['validation_customers']:,} customers, {facts['validation_items']:,} items; "
            f"of the test window's customers {facts['test_cold_customer_share']:.1%} are new"
        )
        say(f"  digest {dataset.digest[:12]}, dataset in {config.output}")
        return dataset


def main(config: PrepareConfig) -> None:
    """Run the step in a session of its own."""
    run_prepare(config, spark_session("prepare"))


if __name__ == "__main__":
    cli.run(main, PrepareConfig, __doc__, "python -m experiments.prepare")
