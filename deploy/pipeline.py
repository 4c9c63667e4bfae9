"""Run the whole flow in one command.

Simulate or take data, ingest, prepare, train, compare, promote, score every customer.

  python -m deploy.pipeline                                      a simulated retailer
  python -m deploy.pipeline --data FOLDER --mapping online_retail
"""

from dataclasses import dataclass

from pydantic import Field
from pyspark.sql import SparkSession

from deploy.batch_score import BatchScoreConfig, Scored, run_batch_score
from experiments.ingest import IngestConfig, run_ingest
from experiments.prepare import PrepareConfig, run_prepare
from experiments.simulate import run_simulate
from experiments.train import TrainedRun, run_train
from recsys import cli, tracking
from recsys.config import Config
from recsys.data.simulate import SimulateConfig
from recsys.hit_table import QUESTIONS, metric_name
from recsys.models import ALGORITHMS
from recsys.progress import say
from recsys.session import spark_session
from recsys.storage import Place, place_of
from recsys.view import artifact_address, view_address
from registry.compare import DOSSIER, CompareConfig, Comparison, run_compare
from registry.promote import PromoteConfig, run_promote
from registry.releases import Release

SIMULATED = "simulated"
SHOWN = ("ndcg_at_10", "recall_at_10")


class PipelineConfig(Config):
    """Parameters of `main`."""

    data: str = Field(SIMULATED, description="simulated, or a file, folder or glob of transactions")
    output: str = Field("out", description="folder for everything that the flow writes")
    k: int = Field(10, ge=1, description="recommendations a customer")
    mapping: str | None = Field(
        None, description="how to read the data; none: simulated, or online_retail for other data"
    )
    model_name: str = Field("recommender", description="registered model of the releases")
    test_days: int = Field(28, ge=1, description="days of the test window")
    validation_days: int = Field(28, ge=1, description="days of the validation window")
    windows: int = Field(1, ge=1, description="test windows; the gain must show in each")


@dataclass(frozen=True)
class Outcome:
    """What the flow left behind."""

    experiment_id: str
    trained: list[TrainedRun]
    compared: Comparison
    release: Release
    scored: Scored


def run_pipeline(config: PipelineConfig, spark: SparkSession) -> Outcome:
    """Run every step as a child of one parent run."""
    output = place_of(config.output)
    with tracking.step_run("main", "main", config.model_dump()) as run:
        source, mapping = _source(config, output)
        run_ingest(
            IngestConfig(source=source, output=str(output / "ingested"), mapping=mapping), spark
        )
        run_prepare(
            PrepareConfig(
                interactions=str(output / "ingested"),
                output=str(output / "dataset"),
                test_days=config.test_days,
                validation_days=config.validation_days,
                windows=config.windows,
            ),
            spark,
        )
        dataset = str(output / "dataset")
        trained = [
            run_train(name, dataset, recommender.parameters_class(), spark)
            for name, recommender in ALGORITHMS.items()
        ]
        compared = run_compare(CompareConfig(dataset=dataset, model_name=config.model_name))
        release = run_promote(
            PromoteConfig(model_name=config.model_name, version=compared.candidate)
        )
        scored = run_batch_score(
            BatchScoreConfig(
                model_name=config.model_name,
                interactions=str(output / "ingested"),
                k=config.k,
                output=str(output / "recommendations"),
            ),
            spark,
        )
        return Outcome(run.info.experiment_id, trained, compared, release, scored)


def _source(config: PipelineConfig, output: Place) -> tuple[str, str]:
    """Return where the transactions are and how to read them; simulates them where asked."""
    if config.data != SIMULATED:
        return config.data, config.mapping or "online_retail"
    run_simulate(SimulateConfig(output=str(output / "raw")))
    return str(output / "raw" / "*.csv"), config.mapping or SIMULATED


def summary(outcome: Outcome) -> str:
    """Write the short table at the end of the flow."""
    lines = ["", f"{'test window, k = 10':<22}{'ndcg@10 (95 % interval)':<30}recall@10"]
    for question in QUESTIONS:
        for run in outcome.trained:
            cells = [_interval(run.metrics, f"test/{metric_name(question, n)}") for n in SHOWN]
            lines.append(f"{question + ' ' + run.algorithm:<22}{cells[0]:<30}{cells[1]}")
    compared, release, scored = outcome.compared, outcome.release, outcome.scored
    return "\n".join(
        [
            *lines,
            "",
            f"promoted         version {release.version} of {release.name} holds Production",
            f"recommendations  {scored.rows:,} rows for {scored.customers:,} customers in "
            f"{scored.output} (commit {scored.commit})",
            f"dossier          {artifact_address(outcome.experiment_id, compared.run_id, DOSSIER)}",
            f"MLflow UI        make ui, then {view_address(outcome.experiment_id)}",
        ]
    )


def _interval(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[name]:.4f} ({metrics[name + '_low']:.4f} … {metrics[name + '_high']:.4f})"


def main(config: PipelineConfig) -> None:
    """Run the flow in a session of its own and print what came out."""
    say(summary(run_pipeline(config, spark_session("main", config.data, config.output))))


if __name__ == "__main__":
    cli.run(main, PipelineConfig, __doc__, "python -m deploy.pipeline")
