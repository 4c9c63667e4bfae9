"""Compare the runs on one dataset customer by customer, and register the winner as a candidate.

The challenger is the run that did best on the validation window; the test window decides whether
it beats the champion: the lower end of the 95 % interval of the paired difference must be above
zero. The champion is the holder of Production if it was judged on this dataset, else the best
popularity baseline.

  python -m registry.compare --dataset out/dataset
"""

from dataclasses import asdict, dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import Field

from recsys import cli, tracking
from recsys.comparison import Difference, paired_difference
from recsys.config import Config
from recsys.data.dataset import Dataset, load_dataset
from recsys.errors import DataError, UsageError
from recsys.evaluation import QUESTIONS
from recsys.progress import say, stage
from registry import plots
from registry.evidence import Entrant, customers_table, entrants
from registry.releases import DATASET_DIGEST, MODEL_DIGEST, candidates_of, find_holder


class CompareConfig(Config):
    """Parameters of `compare`."""

    dataset: str = Field(description="folder that prepare wrote; only runs on it are compared")
    model_name: str = Field("recommender", description="registered model of the releases")
    metric: str = Field(
        "ndcg_at_10", description="deciding metric; replenish/ndcg_at_10 asks the other question"
    )
    stage: str = Field("Production", description="stage whose holder is the champion")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        champion: the run to beat.
        challenger: the best other run on validation, None where there is none.
        differences: run id → challenger minus champion, for every other run.
        winner: challenger or champion.
        reason: why, in a sentence.
        candidate: version of the candidate that stands for the winner.
    """

    champion: Entrant
    challenger: Entrant | None
    differences: dict[str, Difference]
    winner: Entrant
    reason: str
    candidate: int


def run_compare(config: CompareConfig) -> Comparison:
    """Compare, register the winner and log what was found."""
    dataset = load_dataset(config.dataset)
    question, metric = split_metric(config.metric)
    with tracking.step_run("compare", "compare", config.model_dump()), stage("compare"):
        tracking.log_dataset(dataset, "compare")
        taking_part = entrants(dataset.digest)
        if not taking_part:
            raise DataError(
                f"No finished training run on dataset {dataset.digest[:12]}: train at least one "
                f"(python -m experiments.train popularity --dataset {config.dataset})."
            )
        _check_metric(taking_part, config.metric)
        champion = find_champion(taking_part, config)
        others = [e for e in taking_part if e.run_id != champion.run_id]
        champion_table = customers_table(champion.run_id, "test")
        differences = {
            e.run_id: paired_difference(
                champion_table, customers_table(e.run_id, "test"), question, metric
            )
            for e in others
        }
        challenger = max(others, key=lambda e: _on_validation(e, config.metric), default=None)
        winner, reason = decide(champion, challenger, differences, config.metric)
        candidate = register(winner, config.model_name, dataset, reason)
        comparison = Comparison(champion, challenger, differences, winner, reason, candidate)
        _log(comparison, taking_part, config)
        say(f"  {reason}")
        say(f"  candidate: version {candidate} of {candidates_of(config.model_name)}")
        return comparison


def split_metric(metric: str) -> tuple[str, str]:
    """Split `replenish/ndcg_at_10` into question and metric; discover where none is named."""
    question, _, name = metric.rpartition("/")
    if question and question not in QUESTIONS:
        raise UsageError(f"metric={metric}: the question must be one of {', '.join(QUESTIONS)}.")
    return question or "discover", name


def find_champion(taking_part: list[Entrant], config: CompareConfig) -> Entrant:
    """Return the stage's holder if it was judged on this dataset, else the best baseline."""
    holder = find_holder(config.model_name, config.stage)
    for entrant in taking_part:
        if holder and entrant.model_digest == holder.digest:
            return entrant
    baselines = [e for e in taking_part if e.algorithm == "popularity"]
    if not baselines:
        raise DataError(
            "There is no popularity run on this dataset to compare with: a personal model must "
            f"beat it (python -m experiments.train popularity --dataset {config.dataset})."
        )
    return max(baselines, key=lambda e: _on_validation(e, config.metric))


def decide(
    champion: Entrant,
    challenger: Entrant | None,
    differences: dict[str, Difference],
    metric: str,
) -> tuple[Entrant, str]:
    """Return the winner and the reason; pure."""
    if challenger is None:
        return champion, f"{champion.name} has no challenger on this dataset."
    found = differences[challenger.run_id]
    numbers = (
        f"{found.interval.mean:+.4f} ({found.interval.low:+.4f} … {found.interval.high:+.4f}), "
        f"better for {found.wins:,}, alike for {found.ties:,}, worse for {found.losses:,} customers"
    )
    if found.interval.low > 0:
        return challenger, f"{challenger.name} beats {champion.name} on test {metric}: {numbers}."
    return champion, (
        f"{challenger.name} does not reliably beat {champion.name} on test {metric}: {numbers}."
    )


def register(winner: Entrant, model_name: str, dataset: Dataset, reason: str) -> int:
    """Register a run's model as a candidate, once; returns the version."""
    client = MlflowClient()
    name = candidates_of(model_name)
    for known in client.search_model_versions(f"name='{name}'"):
        if known.tags.get(MODEL_DIGEST) == winner.model_digest:
            return int(known.version)
    try:
        client.create_registered_model(
            name, description=f"Candidates for {model_name}, registered by `compare`."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = mlflow.register_model(
        winner.model_uri,
        name,
        tags={
            MODEL_DIGEST: winner.model_digest,
            DATASET_DIGEST: dataset.digest,
            tracking.ALGORITHM_TAG: winner.algorithm,
        },
    )
    client.update_model_version(name, version.version, description=reason)
    return int(version.version)


def _check_metric(taking_part: list[Entrant], metric: str) -> None:
    """Raise UsageError where a run did not log the deciding metric."""
    for entrant in taking_part:
        if f"test/{metric}" not in entrant.metrics:
            known = sorted(
                n.removeprefix("test/") for n in entrant.metrics if n.startswith("test/")
            )
            means = [n for n in known if "_at_" in n and not n.endswith(("_low", "_high"))]
            raise UsageError(f"No run logged test/{metric}: choose one of {', '.join(means)}.")


def _on_validation(entrant: Entrant, metric: str) -> tuple[float, int]:
    return entrant.metrics[f"validation/{metric}"], entrant.started


def _log(comparison: Comparison, taking_part: list[Entrant], config: CompareConfig) -> None:
    """Log the comparison: a table, a plot, the decision."""
    rows: list[dict[str, Any]] = []
    for entrant in taking_part:
        difference = comparison.differences.get(entrant.run_id)
        row = {
            "run": entrant.name,
            "role": _role(entrant, comparison),
            f"validation/{config.metric}": entrant.metrics[f"validation/{config.metric}"],
            f"test/{config.metric}": entrant.metrics[f"test/{config.metric}"],
            "difference": difference.interval.mean if difference else 0.0,
            "low": difference.interval.low if difference else 0.0,
            "high": difference.interval.high if difference else 0.0,
            "better for": difference.wins if difference else 0,
            "alike for": difference.ties if difference else 0,
            "worse for": difference.losses if difference else 0,
            "run_id": entrant.run_id,
        }
        rows.append(row)
    mlflow.log_table(pd.DataFrame(rows).round(6), "comparison.json")
    mlflow.log_figure(plots.differences(rows, config.metric), "plots/differences.png")
    decision = {
        "winner": comparison.winner.run_id,
        "champion": comparison.champion.run_id,
        "reason": comparison.reason,
        "candidate": comparison.candidate,
        "differences": {run: asdict(d) for run, d in comparison.differences.items()},
    }
    mlflow.log_dict(decision, "decision.json")
    mlflow.set_tag("mlflow.note.content", f"{comparison.reason}\n\nCandidate: version "
                   f"{comparison.candidate} of {candidates_of(config.model_name)}.")  # fmt: skip


def _role(entrant: Entrant, comparison: Comparison) -> str:
    if entrant is comparison.champion:
        return "champion"
    return "challenger" if entrant is comparison.challenger else "also ran"


if __name__ == "__main__":
    cli.run(run_compare, CompareConfig, __doc__, "python -m registry.compare")
