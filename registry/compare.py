"""Compare the runs on one dataset customer by customer, and register the winner as a candidate.

The champion is the holder of the stage (its recipe's run on this dataset); on first use the best
popularity run. Every other run challenges it on the test window; registry/policy.yaml says what a
challenger has to show. A dossier holds the evidence for the reviewer.

  python -m registry.compare --dataset out/dataset
  python -m registry.compare --dataset out/dataset --segments country --metric replenish/ndcg_at_10
"""

from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from pydantic import Field

from recsys import cli, tracking, view
from recsys.config import Config
from recsys.data.dataset import Dataset, load_dataset
from recsys.errors import DataError, UsageError
from recsys.hit_table import CAMPAIGN
from recsys.progress import say, stage
from recsys.segments import SEGMENTS_HELP
from registry import plots
from registry.candidates import DOSSIER_TAG, create_candidate, find_candidate
from registry.decisions import DECISION_FILE, to_json
from registry.dossier.page import render
from registry.evidence import Entrant, HitTables, entrants
from registry.pairing import best_popularity, on_validation, pair_all, split_metric
from registry.policy import POLICY_FILE, Decision, Verdict, decide
from registry.releases import (
    DATASET_DIGEST,
    MODEL_DIGEST,
    Release,
    candidates_of,
)
from registry.rulebook import read_policy
from registry.told import DESCRIBED, plain
from registry.trust import find_holder

DOSSIER = "dossier.html"


class CompareConfig(Config):
    """Parameters of `compare`."""

    dataset: str = Field(description="folder that prepare wrote; only runs on it are compared")
    model_name: str = Field("recommender", description="registered model of the releases")
    metric: str = Field(
        "ndcg_at_10", description="deciding metric; replenish/ndcg_at_10 asks the other question"
    )
    stage: str = Field("Production", description="stage whose holder is the champion")
    runs: str | None = Field(None, description="run ids, by comma; none: all on the dataset")
    segments: str | None = Field(None, description=SEGMENTS_HELP)
    policy: str = Field(str(POLICY_FILE.name), description="YAML file of what a winner must show")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        decision: who wins, and why.
        candidate: version of the candidate that stands for the winner.
        run_id: of the comparison, which holds the dossier.
    """

    decision: Decision
    candidate: int
    run_id: str


def run_compare(config: CompareConfig) -> Comparison:
    """Compare, register the winner and log what was found."""
    dataset, policy = load_dataset(config.dataset), read_policy(config.policy)
    with (
        tracking.step_run("compare", "compare", config.model_dump()) as run,
        stage("compare"),
    ):
        tracking.log_dataset(dataset, "compare")
        taking_part = entrants(dataset.digest, cli.names(config.runs))
        if not taking_part:
            raise DataError(
                f"No finished training run on dataset {dataset.digest[:12]}: train at least one "
                f"(python -m experiments.train popularity --dataset {config.dataset})."
            )
        _check_metric(taking_part, config.metric)
        champion = find_champion(taking_part, config)
        tables = HitTables()
        pairings = pair_all(
            champion,
            sorted(taking_part, key=lambda e: on_validation(e, config.metric), reverse=True),
            dataset,
            config.metric,
            cli.names(config.segments),
            tables,
        )
        decision = decide(champion, pairings, policy)
        say(f"  {decision.sentence}")
        for reason in decision.shown.refusals if decision.shown else ():
            say(f"    ✗ {reason}")
        mlflow.log_text(render(decision, policy, dataset, tables), DOSSIER)
        experiment = run.info.experiment_id
        dossier = view.artifact_address(experiment, run.info.run_id, DOSSIER, host="")
        candidate = register(decision, config.model_name, dataset, dossier)
        _log(decision, candidate, taking_part, tables, config)
        page = [(e.experiment_id, e.run_id) for e in taking_part]
        side_by_side = view.comparison_address(page, host="")
        view.describe_experiment(
            experiment,
            view.COMPARED.format(page=side_by_side, dossier=dossier, sentence=decision.sentence),
        )
        say(f"  candidate: version {candidate} of {candidates_of(config.model_name)}")
        say(f"  side by side: {view.comparison_address(page)}")
        say(f"  dossier: {view.artifact_address(experiment, run.info.run_id, DOSSIER)}")
        return Comparison(decision, candidate, run.info.run_id)


def find_champion(taking_part: list[Entrant], config: CompareConfig) -> Entrant:
    """Return the run that stands for the stage's holder; on first use, the best popularity run.

    Raises:
        DataError: the holder's recipe was not trained on this dataset, or there is no baseline.
    """
    holder = find_holder(config.model_name, config.stage)
    if holder:
        return _run_of(holder, taking_part, config)
    baseline = best_popularity(taking_part, config.metric)
    if baseline is None:
        raise DataError(
            "There is no popularity run on this dataset to compare with: a personal model must "
            f"beat it (python -m experiments.train popularity --dataset {config.dataset})."
        )
    return baseline


def _run_of(holder: Release, taking_part: list[Entrant], config: CompareConfig) -> Entrant:
    """Return the holder's own run, or the newest of its recipe on this dataset."""
    for entrant in taking_part:
        if entrant.model_digest == holder.digest:
            return entrant
    same = [e for e in taking_part if e.recipe == holder.recipe]
    if same:
        return max(same, key=lambda e: e.started)
    raise DataError(
        f"Version {holder.version} of {holder.name} holds {config.stage}, but its recipe was not "
        f"trained on this dataset: train it with the parameters of run {holder.run_id} "
        f"(python -m experiments.train {holder.algorithm} --dataset {config.dataset} …)."
    )


def register(decision: Decision, model_name: str, dataset: Dataset, dossier: str) -> int:
    """Register the winner's model as a candidate, once, and link the dossier; returns the version.

    Args:
        decision: who won.
        model_name: registered model of the releases.
        dataset: that decided.
        dossier: its address inside the UI.
    """
    client, name, winner = MlflowClient(), candidates_of(model_name), decision.winner
    known = find_candidate(name, winner.model_digest)
    if known and winner is decision.champion:
        # What it was registered for stays written there; it only holds its place.
        return known
    description = f"{plain(decision.sentence, DESCRIBED // 2)}\n\n[Dossier]({dossier})"
    version = known or create_candidate(
        name,
        winner.run_id,
        winner.model_uri.removeprefix("models:/"),
        description,
        {
            MODEL_DIGEST: winner.model_digest,
            DATASET_DIGEST: dataset.digest,
            tracking.ALGORITHM_TAG: winner.algorithm,
            tracking.RECIPE_TAG: winner.recipe,
            tracking.CODE_TAG: winner.code,
        },
    )
    client.update_model_version(name, str(version), description)
    client.set_model_version_tag(name, str(version), DOSSIER_TAG, dossier)
    return version


def _check_metric(taking_part: list[Entrant], metric: str) -> None:
    """Raise UsageError where a run did not log the deciding metric."""
    question, _ = split_metric(metric)
    strategies = {entrant.parameters.get("strategy") or "none" for entrant in taking_part}
    if question == CAMPAIGN and len(strategies) > 1:
        raise UsageError(
            f"metric={metric}: the runs were judged under different strategies "
            f"({', '.join(sorted(strategies))}): name runs of one strategy in `runs`."
        )
    for entrant in taking_part:
        if f"test/{metric}" not in entrant.metrics:
            known = sorted(
                n.removeprefix("test/") for n in entrant.metrics if n.startswith("test/")
            )
            means = [n for n in known if "_at_" in n and not n.endswith(("_low", "_high"))]
            raise UsageError(
                f"Run {entrant.name} ({entrant.run_id}) did not log test/{metric}: "
                f"choose one of {', '.join(means)}, or train the run again."
            )


def _log(
    decision: Decision,
    candidate: int,
    taking_part: list[Entrant],
    tables: HitTables,
    config: CompareConfig,
) -> None:
    """Log the comparison: a table, a plot, the decision."""
    verdicts = {v.pairing.challenger.run_id: v for v in decision.verdicts}
    rows = [_row(e, decision, verdicts.get(e.run_id), config.metric) for e in taking_part]
    mlflow.log_table(pd.DataFrame(rows).round(6), "comparison.json")
    mlflow.log_figure(plots.differences(rows, config.metric), "plots/differences.png")
    mlflow.log_dict(
        to_json(decision, config.metric, config.stage, candidate, tables.digests), DECISION_FILE
    )
    mlflow.set_tag(
        view.NOTE,
        f"{decision.sentence}\n\nCandidate: version {candidate} of "
        f"{candidates_of(config.model_name)}. Next: `{DOSSIER}` under *Artifacts*.",
    )


def _row(
    entrant: Entrant, decision: Decision, verdict: Verdict | None, metric: str
) -> dict[str, Any]:
    """Return one run's line of the comparison's table."""
    found = verdict.pairing.deciding if verdict else None
    return {
        "run": entrant.name,
        "role": "challenger" if verdict else "champion",
        "outcome": "winner" if entrant is decision.winner else "",
        f"validation/{metric}": entrant.metrics[f"validation/{metric}"],
        f"test/{metric}": entrant.metrics[f"test/{metric}"],
        "difference": found.interval.value if found else 0.0,
        "low": found.interval.low if found else 0.0,
        "high": found.interval.high if found else 0.0,
        "adjusted p": verdict.adjusted_p if verdict else None,
        "better for": found.wins if found else 0,
        "alike for": found.ties if found else 0,
        "worse for": found.losses if found else 0,
        "refused because": "; ".join(verdict.refusals) if verdict else "",
        "run_id": entrant.run_id,
    }


if __name__ == "__main__":
    cli.run(run_compare, CompareConfig, __doc__, "python -m registry.compare")
