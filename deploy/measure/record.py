"""What a measurement leaves: an MLflow run with its report, and one commit."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pyarrow.parquet as pq
from mlflow.entities import Run
from obstore.store import ObjectStore

from deploy.measure import plots, report, words
from deploy.measure.campaigns import Campaign
from deploy.measure.config import MeasureConfig
from deploy.measure.judged import Measured
from deploy.measure.metrics import BY_NAME
from deploy.measure.results import ALL, CAMPAIGN_RESULTS, as_table
from deploy.publish import publish
from recsys import tracking
from recsys.published import write_part
from recsys.storage import Commit, put

REPORT, RESULTS = "report.html", "results.parquet"


@dataclass(frozen=True)
class Job:
    """All that decides on the results.

    Attributes:
        config: what was asked.
        campaigns: what is measured.
        input_digest: of the interactions and customers.
    """

    config: MeasureConfig
    campaigns: tuple[Campaign, ...]
    input_digest: str

    @property
    def run(self) -> str:
        """Name the run's folder: the same inputs have the same one."""
        asked = self.config.model_dump(
            mode="json", include={"window_days", "start", "segments", "churn_days"}
        )
        asked |= {"before_days": self.config.days_before}
        told = [(one.digest, one.start.isoformat(), one.notes) for one in self.campaigns]
        text = json.dumps([asked, told, self.input_digest, tracking.code_version()])
        return f"runs/measure/{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def log(job: Job, found: Sequence[Measured], run: Run) -> str:
    """Show the measurement in MLflow: a child run a campaign; return the report."""
    figures = {one.campaign.strategy: plots.figures(one) for one in found}
    lineage = {
        "interactions": job.input_digest,
        "code": tracking.code_version(),
        "results": job.run,
        "MLflow run": run.info.run_id,
    }
    page = report.render(found, figures, lineage)
    mlflow.log_text(page, REPORT)
    for one in found:
        campaign, scored_by = one.campaign, one.campaign.facts.get("mlflow_run_id")
        tags = {
            "recsys.strategy": campaign.strategy,
            "recsys.model_version": campaign.model,
            "recsys.recommendations_commit": str(campaign.commit),
            **({"recsys.scoring_run": scored_by} if scored_by else {}),
        }
        asked = {
            "strategy": campaign.strategy,
            "commit": campaign.commit,
            "start": campaign.start,
            "window_days": campaign.window_days,
        }
        with tracking.step_run("measure", campaign.strategy, asked, tags):
            mlflow.log_metrics(_metrics(one))
            mlflow.set_tag("recsys.verdict", one.primary.verdict)
            for name, figure in figures[campaign.strategy].items():
                mlflow.log_figure(figure, f"plots/{name}.png")
            mlflow.log_text(words.sentence(one), "verdict.txt")
    return page


def _metrics(one: Measured) -> dict[str, float]:
    """Return what a run's page shows: effects with their intervals, sizes of the arms."""
    metrics = {
        "treatment_customers": float(one.treated),
        "control_customers": float(one.control),
        "days": float(one.days),
    }
    if one.sample is not None:
        metrics["sample_ratio_p"] = one.sample.p_value
    for row in one.results:
        if row.segment_by == ALL and row.metric in BY_NAME:
            values = {"": row.difference, "_low": row.low, "_high": row.high}
            values |= {"_relative": row.relative}
            metrics |= {f"effect/{row.metric}{n}": v for n, v in values.items() if v is not None}
    return metrics


def published(
    store: ObjectStore, job: Job, found: Sequence[Measured], page: str, expected: int, run: Run
) -> Commit:
    """Write the table and the report, and commit them."""
    table = as_table([row for one in found for row in one.results])
    with TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / RESULTS)
        mlflow.log_artifact(str(Path(folder) / RESULTS))
    part = write_part(store, job.run, CAMPAIGN_RESULTS, "part-00000.parquet", table)
    put(store, f"{job.run}/{REPORT}", page.encode())
    facts: dict[str, Any] = {
        "campaigns": [_facts(one) for one in found],
        "parameters": job.config.model_dump(
            mode="json", exclude={"recommendations", "interactions", "output", "plan", "effect"}
        ),
        "input_digest": job.input_digest,
        "mlflow_run_id": run.info.run_id,
        "code_version": tracking.code_version(),
        "rows": len(table),
    }
    mlflow.log_dict(facts, "measure.json")
    return publish(store, job.run, [part], facts, expected)


def _facts(one: Measured) -> dict[str, Any]:
    """Say in the manifest what was measured of a campaign."""
    campaign = one.campaign
    return {
        "strategy": campaign.strategy,
        "recommendations_commit": campaign.commit,
        "recommendations_digest": campaign.digest,
        "model_name": campaign.facts["model_name"],
        "model_version": campaign.facts["model_version"],
        "scoring_run": campaign.facts.get("mlflow_run_id"),
        "start": campaign.start.isoformat(),
        "days": one.days,
        "treatment_customers": one.treated,
        "control_customers": one.control,
        "sentence": words.sentence(one),
        "void_reason": one.void_reason,
        "notes": list(one.notes),
        "bought": one.observed.bought,
    }
