"""A month of the platform in one command, to be called when the month's transactions have come.

  ingest ─▶ measure the last campaign ─▶ prepare ─▶ search ─▶ compare ─▶ review ─▶ batch_score

The champion's recipe is fitted again on the new data, beside a popularity baseline and the best of
a search; `compare` says which of them wins. Where registry/policy.yaml asks for approvals, the
winner waits for them and the model in Production scores; where it asks for none, it is promoted.
Called again, it goes on where it stopped, and publishes a slot only once.

  python -m deploy.monthly --source 'landing/*.csv' --output out --slot 2026-11
"""

from dataclasses import dataclass

from pydantic import Field
from pyspark.sql import SparkSession

from deploy.batch_score import BatchScoreConfig, Scored, checked, run_batch_score
from deploy.measure.config import MeasureConfig
from deploy.measure.outcomes import interactions_end
from deploy.measure.run import Outcome, run_measure
from experiments.ingest import IngestConfig, run_ingest
from experiments.prepare import PrepareConfig, run_prepare
from experiments.search import SearchConfig, run_search, space_of
from experiments.train import run_train
from recsys import cli, tracking
from recsys.data.dataset import load_dataset
from recsys.data.mapping import Mapping
from recsys.data.tables import read_tables
from recsys.models import ALGORITHMS, files
from recsys.models.base import Hyperparameters
from recsys.progress import say
from recsys.session import spark_session
from recsys.storage import Commit, CommitLog, folder_exists, place_of, store_of
from recsys.training import recipe
from registry.compare import CompareConfig, Comparison, run_compare
from registry.evidence import entrants
from registry.promote import PromoteConfig, run_promote
from registry.releases import verified_model
from registry.rulebook import RuledConfig
from registry.trust import find_holder

PRODUCTION = "Production"


class MonthlyConfig(RuledConfig):
    """Parameters of `monthly`."""

    source: str = Field(description="all transactions so far: a file, a folder, or a glob")
    output: str = Field("out", description="folder for everything that the month writes")
    slot: str = Field(pattern=r"^[\w.-]+$", description="the month, such as 2026-11")
    mapping: str = Field("online_retail", description="a preset's name, or a YAML file")
    model_name: str = Field("recommender", description="registered model of the releases")
    strategy: str = Field("next_best_products", description="what is recommended to whom")
    algorithm: str = Field("als", description="what is searched, or all")
    max_evals: int = Field(20, ge=1, description="trials of the search")
    k: int | None = Field(None, ge=1, description="items a customer; none: what the strategy says")
    window_days: int = Field(28, ge=1, description="days of each window, and of the measurement")


@dataclass(frozen=True)
class Month:
    """What a month left.

    Attributes:
        measured: what the campaigns before did; None where there was none.
        compared: who won.
        promoted: whether the winner holds Production now.
        scored: what was published.
    """

    measured: Outcome | None
    compared: Comparison
    promoted: bool
    scored: Scored


def run_monthly(config: MonthlyConfig, spark: SparkSession) -> Month:
    """Run every step as a child of one parent run.

    Raises:
        UsageError: a parameter of any step is wrong; nothing was begun.
        RecsysError: a step could not be done.
    """
    output, days = place_of(config.output), config.window_days
    tables, dataset, lists = (str(output / n) for n in ("ingested", "dataset", "recommendations"))
    searching = SearchConfig(
        dataset=dataset, algorithm=config.algorithm, max_evals=config.max_evals
    )
    scoring = BatchScoreConfig(
        model_name=config.model_name,
        interactions=tables,
        strategy=config.strategy,
        k=config.k,
        output=lists,
        slot=config.slot,
        policy=config.policy,
        reviewers=config.reviewers,
    )
    # What the last step would refuse must not be found out after Production has changed.
    Mapping.load(config.mapping)
    space_of(searching)
    checked(scoring)
    config.rulebook()
    with tracking.step_run("monthly", f"monthly {config.slot}", config.model_dump()):
        run_ingest(IngestConfig(source=config.source, output=tables, mapping=config.mapping), spark)
        measured = _measured(lists, tables, days, spark)
        run_prepare(
            PrepareConfig(
                interactions=tables, output=dataset, test_days=days, validation_days=days
            ),
            spark,
        )
        _train(dataset, config.model_name, spark)
        run_search(searching, spark)
        compared = run_compare(
            CompareConfig(dataset=dataset, model_name=config.model_name, policy=config.policy)
        )
        promoted = _reviewed(config, compared)
        _say_where_nothing_came(config, lists, tables, spark)
        scored = run_batch_score(scoring, spark)
        return Month(measured, compared, promoted, scored)


def _measured(lists: str, tables: str, days: int, spark: SparkSession) -> Outcome | None:
    """Measure what was published before, if anything was."""
    if _head(lists) is None:
        return None
    return run_measure(
        MeasureConfig(recommendations=lists, interactions=tables, window_days=days), spark
    )


def _head(lists: str) -> Commit | None:
    """Return the commit that was published last."""
    return CommitLog(store_of(lists)).head() if folder_exists(lists) else None


def _say_where_nothing_came(
    config: MonthlyConfig, lists: str, tables: str, spark: SparkSession
) -> None:
    """Say that the transactions end where they did when another slot was scored."""
    head = _head(lists)
    facts = head.payload["facts"] if head else {}
    last, slot = facts.get("interactions_end"), facts.get("slot")
    if not last or slot == config.slot:
        return
    end = interactions_end(read_tables(spark, tables).interactions)
    if last >= end.isoformat():
        say(
            f"  no new data: the transactions end before {end}, and slot {slot} was scored with "
            f"those before {last}. Slot {config.slot} is scored with the same: is a file missing "
            f"in {config.source}?"
        )


def _train(dataset: str, model_name: str, spark: SparkSession) -> None:
    """Fit what the search's best is compared with: popularity, and the champion's recipe."""
    wanted: list[tuple[str, Hyperparameters]] = [
        ("popularity", ALGORITHMS["popularity"].parameters_class())
    ]
    holder = find_holder(model_name, PRODUCTION)
    if holder is not None:
        with verified_model(holder) as folder:
            header, _ = files.read_header(folder)
        wanted.append((header.algorithm, header.parameters))
    done = {entrant.recipe for entrant in entrants(load_dataset(dataset).digest)}
    for algorithm, parameters in wanted:
        if recipe(algorithm, parameters) not in done:
            done.add(recipe(algorithm, parameters))
            run_train(algorithm, dataset, parameters, spark)


def _reviewed(config: MonthlyConfig, compared: Comparison) -> bool:
    """Promote where nobody has to sign; otherwise say what waits for whom."""
    wanted = config.rulebook().of(PRODUCTION).approvals
    if wanted:
        say(
            f"  version {compared.candidate} waits for {wanted} approval(s): "
            f"python -m registry.review waiting --model-name {config.model_name}"
        )
        return False
    run_promote(
        PromoteConfig(
            model_name=config.model_name,
            version=compared.candidate,
            policy=config.policy,
            reviewers=config.reviewers,
        )
    )
    return True


def main(config: MonthlyConfig) -> None:
    """Run the month in a session of its own."""
    run_monthly(config, spark_session("monthly", config.source, config.output))


if __name__ == "__main__":
    cli.run(main, MonthlyConfig, __doc__, "python -m deploy.monthly")
