"""Release a candidate: copy it into the releases, give it the stage and the alias.

python -m registry.promote --version 1 --stage Production --reviewer anna
"""

import getpass
import warnings
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import Field

from recsys import cli, tracking
from recsys.config import Config
from recsys.progress import say, stage
from registry.releases import (
    CANDIDATE,
    Release,
    candidates_of,
    find_holder,
    find_version,
    set_stage,
    to_release,
    verified_model,
)


class PromoteConfig(Config):
    """Parameters of `promote`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    version: int = Field(ge=1, description="version of the candidate to release")
    stage: Literal["Staging", "Production", "Archived"] = Field(
        "Production", description="stage to give it"
    )
    reviewer: str | None = Field(None, description="who decided; none: the current user")


def run_promote(config: PromoteConfig) -> Release:
    """Release a candidate; promoting the same candidate again changes nothing."""
    reviewer = config.reviewer or getpass.getuser()
    parameters = config.model_dump() | {"reviewer": reviewer}
    with tracking.step_run("promote", "promote", parameters), stage("promote"):
        candidate = find_version(candidates_of(config.model_name), config.version)
        with verified_model(to_release(candidate)):
            former = find_holder(config.model_name, config.stage)
            version = _released(candidate, config.model_name)
            set_stage(version, config.stage)
        client = MlflowClient()
        for key, value in {
            "recsys.reviewer": reviewer,
            "recsys.promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }.items():
            client.set_model_version_tag(version.name, version.version, key, value)
        release = to_release(version)
        before = f", before it version {former.version}" if former else ""
        say(f"  version {release.version} of {release.name} holds {config.stage}{before}")
        return release


def _released(candidate: ModelVersion, model_name: str) -> ModelVersion:
    """Return the release of a candidate, copied once."""
    client = MlflowClient()
    for known in client.search_model_versions(f"name='{model_name}'"):
        if known.tags.get(CANDIDATE) == str(candidate.version):
            return known
    try:
        client.create_registered_model(
            model_name, description="Released recommenders, written by `promote` alone."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        version = client.copy_model_version(
            f"models:/{candidate.name}/{candidate.version}", model_name
        )
    for key, value in {**candidate.tags, CANDIDATE: str(candidate.version)}.items():
        client.set_model_version_tag(model_name, version.version, key, value)
    client.update_model_version(model_name, version.version, description=candidate.description)
    return client.get_model_version(model_name, version.version)


if __name__ == "__main__":
    cli.run(run_promote, PromoteConfig, __doc__, "python -m registry.promote")
