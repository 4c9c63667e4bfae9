"""A bare node installs the pinned environment by itself, and runs an entry point with it."""

import os
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from deploy.azure_batch.backend import AzureBatchBackend
from tests.deploy.cloud import Cloud

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bare_node_installs_the_environment(
    batch: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    image = batch.service.settings.image_environment
    python = Path(os.__file__).parent.parent.parent / "bin"
    # How packages are reached from this machine, and a Python that is not ours.
    told = {n: v for n, v in os.environ.items() if n.startswith(("PIP_", "UV_", "SSL_"))}
    bare = {"PATH": f"{python}:{SYSTEM}", "HOME": str(Path.home()), **told}
    assert isinstance(image, dict)
    image.update(bare)
    experiment = mlflow.get_experiment_by_name("recsys")
    assert experiment is not None
    config = batch.config(pool={"environment": "install"}, capacity_minutes=8)
    run = AzureBatchBackend().run(
        str(ROOT),
        "simulate",
        {"output": f"{batch.storage}/raw", "customers": 50, "items": 20, "days": 60},
        None,
        config,
        mlflow.get_tracking_uri(),
        experiment.experiment_id,
    )

    assert run.wait(), capfd.readouterr().out

    found = MlflowClient().get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["rows"] > 0
    assert found.data.tags["recsys.code_version"]
