"""Fit a candidate again, with its hyperparameters, on all interactions up to now.

The model that `compare` judged never saw the test window. The refit has seen everything, so nothing
is left to judge it by: it is held against the evaluated model (registry/refit.yaml) and becomes a
candidate of its own, which names the evaluated one. The dossier speaks of that one.

  python -m registry.refit --version 1 --interactions out/ingested
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from pydantic import Field
from pyspark.sql import SparkSession

from recsys import cli, logged_models, tracking, view
from recsys import columns as c
from recsys.config import Config
from recsys.errors import ModelError, UsageError
from recsys.models import files
from recsys.progress import say, stage
from recsys.session import scratch_folder, spark_session
from recsys.storage import beside, place_of, read_file
from recsys.training import recipe, run_name
from registry import candidates
from registry.dossier import refit as page
from registry.refit_checks import LIMITS_FILE, Check, Likeness, Limits, check
from registry.refit_models import Models, day, fit_again, likeness
from registry.releases import (
    DATASET_DIGEST,
    MODEL_DIGEST,
    candidates_of,
    find_version,
    to_release,
    verified_model,
)

CHECKS_FILE, PAGE = "refit.json", "refit.html"


class RefitConfig(Config):
    """Parameters of `refit`."""

    version: int = Field(ge=1, description="version of the candidate that was evaluated")
    interactions: str = Field(description="folder that ingest wrote; all of it is fitted on")
    model_name: str = Field("recommender", description="registered model of the releases")
    limits: str = Field(LIMITS_FILE.name, description="YAML file of how far a refit may be")
    checkpoints: str | None = Field(
        None,
        description="folder in which a long fit keeps its state, so that the same command goes on "
        "after a crash; none: `checkpoints` beside the interactions",
    )


@dataclass(frozen=True)
class Refit:
    """What `refit` made.

    Attributes:
        candidate: its version among the candidates.
        new: whether it was registered just now.
        run_id: that holds the checks.
        model_digest: of the refit.
        checks: against the evaluated model, all passed.
    """

    candidate: int
    new: bool
    run_id: str
    model_digest: str
    checks: list[Check]


def run_refit(config: RefitConfig, spark: SparkSession) -> Refit:
    """Fit a candidate again, check it, register it; the same once more registers nothing new.

    Raises:
        UsageError: the candidate is unknown or itself a refit, or the limits are wrong.
        DataError: the interactions hold nothing that the evaluated model has not seen.
        ModelError: the candidate was altered, or the refit is beyond a limit.
    """
    evaluated, limits = find_evaluated(config), read_limits(config.limits)
    kept = config.checkpoints or beside(place_of(config.interactions), "checkpoints")
    with (
        tracking.step_run(
            "refit", f"refit of version {config.version}", config.model_dump(), _tags(evaluated)
        ) as run,
        stage("refit"),
        scratch_folder(spark, "refit") as scratch,
        tempfile.TemporaryDirectory(prefix="recsys-model-") as saved,
        verified_model(to_release(evaluated)) as model,
    ):
        models = fit_again(
            spark, model, config.interactions, scratch, Path(saved) / "model", place_of(kept)
        )
        facts, found = _facts(evaluated, models), likeness(spark, models, model)
        checks = check(found, limits)
        _log(models, facts, found, checks, limits)
        for one in checks:
            say(f"    {'✓' if one.passed else '✗'} {one.name}: {one.reason}")
        if refused := [f"{one.name}: {one.reason}" for one in checks if not one.passed]:
            raise ModelError(
                f"The refit of version {config.version} is no candidate: {'; '.join(refused)}. "
                f"{PAGE} of this run shows what changed: mend the interactions, or train and "
                "compare again on newer data."
            )
        name = candidates_of(config.model_name)
        known = candidates.find_candidate(name, models.digest)
        version = known or _register(name, evaluated, models, facts, run)
        _describe(run, facts, version, name)
        say(f"  {facts.sentence}")
        was = "was registered before: nothing new" if known else "is the refit"
        say(f"  version {version} of {name} {was}")
        return Refit(version, known is None, run.info.run_id, models.digest, checks)


def find_evaluated(config: RefitConfig) -> ModelVersion:
    """Return the candidate to fit again; raises UsageError where it is unknown or a refit."""
    version = find_version(candidates_of(config.model_name), config.version)
    of = version.tags.get(candidates.EVALUATED_VERSION)
    if of is not None:
        raise UsageError(
            f"Version {config.version} of {version.name} is itself a refit, of version {of}: "
            f"refit that one again (--version {of})."
        )
    return version


def read_limits(path: str) -> Limits:
    """Read the limits; a bare name that is not there is looked for beside this module.

    Raises:
        UsageError: there is no such file, or it holds no limits.
    """
    data = read_file(place_of(path)) or read_file(LIMITS_FILE.parent / path)
    if data is None:
        raise UsageError(f"limits={path}: there is no such file; registry/refit.yaml is one.")
    return Limits.from_yaml(data.decode(), path)


def _tags(evaluated: ModelVersion) -> dict[str, str]:
    """Return the tags that name the evaluated model, for the run and the candidate alike."""
    return {
        candidates.EVALUATED_VERSION: str(evaluated.version),
        candidates.EVALUATED_RUN: evaluated.run_id or "",
        candidates.EVALUATED_DIGEST: to_release(evaluated).digest,
    }


def _facts(evaluated: ModelVersion, models: Models) -> page.Facts:
    header = models.header
    return page.Facts(
        evaluated.name,
        int(evaluated.version),
        run_name(header.algorithm, header.parameters),
        day(header.before),
        day(models.complete.history.before - 1),
        to_release(evaluated).digest,
        models.digest,
    )


def _log(
    models: Models, facts: page.Facts, found: Likeness, checks: Sequence[Check], limits: Limits
) -> None:
    """Log what was fitted and how it compares, whether it passed or not."""
    header, history = models.header, models.complete.history
    mlflow.set_tags(
        {
            tracking.DIGEST_TAG: models.complete.digest,
            tracking.ALGORITHM_TAG: header.algorithm,
            tracking.RECIPE_TAG: recipe(header.algorithm, header.parameters),
        }
    )
    tracking.log_parameters(
        {
            "algorithm": header.algorithm,
            "dataset_digest": models.complete.digest[: tracking.DIGEST_SHOWN],
            "customers": history.customers,
            "items": history.items,
            "until": facts.until,
        }
        | header.parameters.model_dump()
    )
    mlflow.log_metrics({f"refit/{one.name}": round(one.value, 6) for one in checks})
    size = sum(file.stat().st_size for file in models.saved.iterdir())
    mlflow.log_metrics(
        {"train/model_bytes": size, "train/fit_seconds": round(models.refit.seconds, 6)}
    )
    for step, values in models.refit.steps.items():
        rounded = {f"train/{name}": round(value, 6) for name, value in values.items()}
        mlflow.log_metrics(rounded, step=step)
    told = asdict(facts) | {"sentence": facts.sentence, **found.to_json()}
    told |= {"checks": [asdict(one) for one in checks], "limits": limits.model_dump()}
    mlflow.log_dict(told, CHECKS_FILE)
    mlflow.log_text(page.render(facts, found, checks, page.examples(found, history)), PAGE)
    mlflow.log_figure(page.picture(found), "plots/refit.png")


def _register(
    name: str, evaluated: ModelVersion, models: Models, facts: page.Facts, run: Run
) -> int:
    """Log the model and make it a candidate; returns its version."""
    header, run_id = models.header, run.info.run_id
    customers = next(pq.ParquetFile(models.saved / files.CUSTOMERS).iter_batches(3))
    metadata = {
        "algorithm": header.algorithm,
        "model_digest": models.digest,
        "dataset_digest": models.complete.digest,
    }
    example = pd.DataFrame({c.CUSTOMER_ID: customers[c.CUSTOMER_ID].to_pylist()})
    logged = logged_models.log_model(models.saved, run, metadata, example)
    mlflow.set_tags(
        {tracking.MODEL_DIGEST_TAG: models.digest, tracking.MODEL_ID_TAG: logged.model_id}
    )
    dossier = evaluated.tags.get(candidates.DOSSIER_TAG, "")
    checks = view.artifact_address(run.info.experiment_id, run_id, PAGE, host="")
    return candidates.create_candidate(
        name,
        run_id,
        logged.model_id,
        f"{facts.sentence}\n\n[Dossier of version {facts.version}]({dossier}) · "
        f"[what the refit changed]({checks})",
        {
            MODEL_DIGEST: models.digest,
            DATASET_DIGEST: models.complete.digest,
            tracking.ALGORITHM_TAG: header.algorithm,
            tracking.RECIPE_TAG: recipe(header.algorithm, header.parameters),
            tracking.CODE_TAG: tracking.code_version(),
            candidates.DOSSIER_TAG: dossier,
            candidates.CHECKS_TAG: checks,
            **_tags(evaluated),
        },
        candidates.authors_of(evaluated),
    )


def _describe(run: Run, facts: page.Facts, version: int, name: str) -> None:
    """Say on the run's page what it made and what to look at next."""
    address = view.artifact_address(run.info.experiment_id, run.info.run_id, PAGE, host="")
    mlflow.set_tag(
        view.NOTE,
        f"{facts.sentence}\n\nCandidate: version {version} of {name}. Next: [{PAGE}]({address}), "
        f"then `python -m registry.promote --version {version}`.",
    )


def main(config: RefitConfig) -> None:
    """Run the step in a session of its own, after what can be checked without one."""
    find_evaluated(config)
    read_limits(config.limits)
    run_refit(config, spark_session("refit", config.interactions, config.checkpoints))


if __name__ == "__main__":
    cli.run(main, RefitConfig, __doc__, "python -m registry.refit")
