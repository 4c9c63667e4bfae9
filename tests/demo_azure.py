"""The flow on a cloud that fits on this machine: `make demo-azure`.

Azurite is the Blob storage, `tests/batch_service` stands in for Azure Batch, and MLflow's server
keeps runs in SQLite and artifacts in Blob storage. What runs is real: `als` is trained by a Spark
master and two workers on three nodes, each with a disk of its own, and the table that a schedule
publishes is read back from Blob storage. Everything ends with this program.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
from azure.storage.blob import BlobServiceClient

from recsys.published import AUDIENCE, RECOMMENDATIONS, published_table
from tests import azurite, mlflow_server
from tests.batch_service.server import running
from tests.batch_service.service import BatchService
from tests.deploy.cloud import POOL, VENV, image, impatient

ROOT = Path(__file__).resolve().parent.parent
CONTAINER = "recsys"
PLACE = f"az://{CONTAINER}/demo"
SCHEDULE = "nightly"
PATIENCE = 240.0
ANALYST = """
import sys
from recsys.published import read_published
from recsys.session import spark_session
spark = spark_session("analyst", sys.argv[1])
read_published(spark, sys.argv[1]).createOrReplaceTempView("recommendations")
spark.sql(
    "SELECT source, count(*) AS rows, count(DISTINCT customer_id) AS customers, "
    "round(avg(score), 3) AS score FROM recommendations GROUP BY source ORDER BY rows DESC"
).show()
"""


def main() -> None:
    """Run the demo; an exit code other than 0 says that a step failed."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="recsys-cloud-", dir="/var/tmp") as folder:
        disk = Path(folder)
        with _servers(disk) as service:
            _flow(service, disk)
    print(f"\ndone in {time.monotonic() - started:.0f} s; nothing is left running", flush=True)


def _flow(service: BatchService, disk: Path) -> None:
    config = _config(service, disk)
    with _step("simulate, ingest and prepare, from this machine into Blob storage"):
        _run("experiments.simulate", output=f"{PLACE}/raw", customers=1500, items=400)
        source, ingested = f"{PLACE}/raw/*.csv", f"{PLACE}/ingested"
        _run("experiments.ingest", source=source, output=ingested, mapping="simulated")
        _run("experiments.prepare", interactions=ingested, output=f"{PLACE}/dataset")
    with _step("popularity, from this machine"):
        _run("experiments.train", "popularity", dataset=f"{PLACE}/dataset")
    with _step("als, by a Spark master and two workers: mlflow run --backend azure-batch"):
        _submit("als", config, dataset=f"{PLACE}/dataset")
        _show_nodes(service)
    with _step("compare and promote, from this machine"):
        text = _run("registry.compare", dataset=f"{PLACE}/dataset")
        found = re.search(r"candidate: version (\d+)", text)
        assert found and "als beats popularity" in text
        _run("registry.promote", version=found[1], reviewer="anna")
    with _step("a schedule publishes every customer's recommendations"):
        verbs = ("deploy.schedule", "create")
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
        options = {"backend_config": config, "every": "1d", "k": 5, "not_after": tomorrow}
        places = {"interactions": ingested, "output": f"{PLACE}/recommendations"}
        _run(*verbs, name=SCHEDULE, **options, **places)
        _wait_for_job(service, config)
        _run("deploy.schedule", "list", backend_config=config)
        _run("deploy.schedule", "show", name=SCHEDULE, backend_config=config)
    with _step("an analyst reads the table, with pandas and with Spark SQL"):
        published = f"{PLACE}/recommendations"
        table, audience = (published_table(published, t) for t in (RECOMMENDATIONS, AUDIENCE))
        print(table.slice(0, 5).to_pandas().to_string(index=False))
        print(f"  {len(table):,} rows for {len(audience):,} customers")
        assert len(audience) > 1000 and len(table) > 4 * len(audience)
        _call([sys.executable, "-c", ANALYST, published])


@contextmanager
def _servers(disk: Path) -> Iterator[BatchService]:
    """Start Azurite, MLflow's server and the stand-in, and point this process at them."""
    with azurite.running(disk / "azurite") as connection:
        BlobServiceClient.from_connection_string(connection).create_container(CONTAINER)
        os.environ["AZURE_STORAGE_CONNECTION_STRING"] = connection
        os.environ["RECSYS_CACHE"] = str(disk / "cache")
        artifacts = f"wasbs://{CONTAINER}@{azurite.ACCOUNT}.blob.core.windows.net/mlflow"
        with mlflow_server.running(disk / "mlflow.db", artifacts) as uri:
            os.environ["MLFLOW_TRACKING_URI"] = uri
            os.environ["RECSYS_LEDGER"] = f"{PLACE}/ledger"
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("recsys")
            given = image()
            with running(disk / "batch", image_environment=given) as service, impatient(service):
                keys = {"BATCH_ACCOUNT_NAME": service.account, "BATCH_ACCESS_KEY": service.key}
                os.environ.update(keys)
                given.update(keys)
                print(f"MLflow  {uri}\nBatch   {service.url}", flush=True)
                yield service


def _config(service: BatchService, disk: Path) -> str:
    """Write the backend's configuration."""
    pool = {"id": POOL, "environment": str(VENV), "driver": "dedicated", "workers": 2}
    values = {"batch_endpoint": service.url, "storage": f"az://{CONTAINER}", "pool": pool}
    file = disk / "azure_batch.json"
    file.write_text(json.dumps(values | {"poll_seconds": 1, "max_hours": 1}))
    return str(file)


def _run(module: str, *words: str, **options: object) -> str:
    """Run a module of the project as a user does; returns what it printed."""
    return _call([sys.executable, "-m", module, *words, *_options("--", options)])


def _submit(entry: str, config: str, **parameters: object) -> str:
    """Submit an entry point to the pool."""
    command = ["mlflow", "run", ".", "-e", entry, "--backend", "azure-batch"]
    command += ["--backend-config", config]
    values = [word for k, v in parameters.items() for word in ("-P", f"{k}={v}")]
    return _call([str(Path(sys.executable).with_name(command[0])), *command[1:], *values])


def _options(dashes: str, options: dict[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"{dashes}{name}", str(value))]


def _call(command: list[str]) -> str:
    """Run a command, showing what it prints; raises where it fails."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(f"    {line}", end="", flush=True)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command[:4])} … failed with {process.returncode}")
    return "".join(lines)


def _show_nodes(service: BatchService) -> None:
    for node in service.pools[POOL].nodes.values():
        print(f"  node {node.id} at {node.address}: {node.state}", flush=True)


def _wait_for_job(service: BatchService, config: str) -> None:
    """Wait until the schedule's first job has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        jobs = [job for job in service.jobs.values() if job.id.startswith(f"{SCHEDULE}:")]
        if jobs and all(job.state == "completed" for job in jobs):
            return
        time.sleep(0.5)
    raise SystemExit(f"the schedule's job did not end within {PATIENCE:.0f} s")


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Announce a step and tell how long it took."""
    print(f"\n▸ {title}", flush=True)
    started = time.monotonic()
    yield
    print(f"  {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
