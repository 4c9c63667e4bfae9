"""Show what a run on Azure Batch would send, and send nothing.

  python -m deploy.azure_batch --entry_point als --parameters "dataset=az://data/dataset"
  python -m deploy.azure_batch --show pool

The first prints the requests for pool and job as JSON, signatures left out, and the most that the
job can cost. The second prints the request that makes a pool with an identity, once.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from deploy.azure_batch.backend import Submission, command_of, show
from deploy.azure_batch.config import BackendConfig
from deploy.cluster.pool import pool_options
from deploy.cluster.template import template
from recsys import cli
from recsys.config import Config
from recsys.errors import UsageError
from recsys.progress import say


class ShowConfig(Config):
    """What to show."""

    entry_point: str = Field("main", description="entry point of the MLproject")
    parameters: str | None = Field(
        None, description='the entry point\'s parameters, "name=value; name=value"'
    )
    backend_config: str = Field("deploy/azure_batch.json", description="the configuration")
    project: str = Field(".", description="the project's folder")
    show: Literal["requests", "pool"] = Field(
        "requests", description="requests: what a run sends; pool: what makes the pool, once"
    )


def run(shown: ShowConfig) -> None:
    """Print the requests; raises UsageError."""
    config, root = BackendConfig.from_file(shown.backend_config), Path(shown.project)
    if shown.show == "pool":
        submission = Submission.of(config, root, timedelta(hours=config.max_hours), signs=False)
        say(template(config, pool_options(config, submission.environment)))
        return
    command = command_of(root, shown.entry_point, _pairs(shown.parameters))
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")
    show(config, root, command, tracking, None)


def _pairs(text: str | None) -> dict[str, str]:
    """Read "name=value; name=value"; raises UsageError."""
    pairs = [part.strip().partition("=") for part in (text or "").split(";") if part.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        raise UsageError('parameters must be of the form "name=value; name=value".')
    return {name.strip(): value.strip() for name, _, value in pairs}


if __name__ == "__main__":
    cli.run(run, ShowConfig, __doc__, "python -m deploy.azure_batch")
