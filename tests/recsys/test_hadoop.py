"""Spark reads and writes Blob storage through Hadoop's ABFS driver, on a real Azurite.

In sessions of their own: the suite's shared one has no jars for Azure.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.dataset
import pyarrow.fs
import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from pyspark.sql import SparkSession

from recsys import hadoop
from recsys.errors import RecsysError
from recsys.storage.azure import azure_place, secrets
from tests import azurite

ROOT = Path(__file__).resolve().parent.parent.parent
# Every variable that names an account or opens one.
AZURE = ("AZURE_", "AZURITE_")

WRITE_AND_READ = """
import json, sys
from pathlib import Path
from pyspark.sql import SparkSession
from recsys.hadoop import apply, azure_packages
from recsys.storage.azure import azure_place, spark_url

url, events = sys.argv[1:3]
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
settings = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
settings |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": Path(events).as_uri()}
settings["spark.eventLog.compress"] = "false"
for name, value in (settings | azure_packages()).items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("INFO")
place = azure_place(url)
apply(spark, [place])
apply(spark, [place])
table = spark.range(1000).selectExpr("id", "CAST(id % 3 AS INT) AS shop")
table.write.partitionBy("shop").parquet(spark_url(place))
table.limit(1).write.mode("overwrite").parquet(spark_url(place) + "-other")
# Spark tells its event log the whole environment again after this.
spark.sparkContext.addFile("pyproject.toml")
back = spark.read.parquet(spark_url(place))
java = spark._jvm.java.lang.ProcessHandle.current().pid()
told = {
    "rows": back.count(),
    "sum": back.selectExpr("SUM(id)").first()[0],
    "shops": sorted(row.shop for row in back.select("shop").distinct().collect()),
    "settings": spark.sparkContext.getConf().getAll(),
    "sql": [list(row) for row in spark.sql("SET").collect()],
    "command": Path(f"/proc/{java}/cmdline").read_bytes().decode().split(chr(0)),
}
spark.stop()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def jars() -> None:
    """The driver's jars, fetched where they are missing."""
    if not any(hadoop.jars_folder().glob(hadoop.DRIVER_JAR)):
        hadoop.fetch_jars()


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite.running(tmp_path_factory.mktemp("azurite")) as connection:
        yield connection


@pytest.fixture
def container(connection: str) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    BlobServiceClient.from_connection_string(connection).create_container(name)
    return name


def child(environment: dict[str, str], *arguments: object) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(AZURE)}
    return subprocess.run(
        [sys.executable, "-c", WRITE_AND_READ, *map(str, arguments)],
        cwd=ROOT,
        env=kept | {"SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=150,
    )


def signature(container: str) -> str:
    return generate_container_sas(
        azurite.ACCOUNT,
        container,
        account_key=azurite.KEY,
        permission=ContainerSasPermissions.from_string("racwdl"),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("credential", ["key", "signature"])
def test_spark_writes_and_reads_a_table_and_tells_nobody_the_secret(
    credential: str, connection: str, container: str, tmp_path: Path, jars: None
) -> None:
    if credential == "key":
        environment = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        url = f"az://{container}/shops/lines"
    else:
        environment = {"AZURE_STORAGE_SAS_TOKEN": signature(container)}
        url = f"{azurite.endpoint(connection)}/{azurite.ACCOUNT}/{container}/shops/lines"
    done = child(environment, url, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["rows"], told["sum"], told["shops"]) == (1000, 499_500, [0, 1, 2])
    assert any("hadoop-azure" in word for word in told["command"])
    events = "".join(log.read_text("utf-8") for log in tmp_path.rglob("*") if log.is_file())
    assert "fs.azure.account.auth.type" in events
    assert "SparkListenerEnvironmentUpdate" in events
    for secret in secrets(environment):
        assert secret not in done.stdout
        assert secret not in done.stderr
        assert secret not in events
    assert rows_seen_by_arrow(connection, f"{container}/shops/lines") == 1000


def rows_seen_by_arrow(connection: str, folder: str) -> int:
    """Count a table's rows with pyarrow, which pandas reads with."""
    authority = azurite.endpoint(connection).removeprefix("http://")
    files = pyarrow.fs.AzureFileSystem(
        azurite.ACCOUNT,
        account_key=azurite.KEY,
        blob_storage_authority=authority,
        dfs_storage_authority=authority,
        blob_storage_scheme="http",
        dfs_storage_scheme="http",
    )
    # By name: Hadoop marks a folder with an empty blob, which Arrow takes for a file.
    found = files.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True))
    parts = [file.path for file in found if file.extension == "parquet"]
    table = pyarrow.dataset.dataset(parts, filesystem=files, partitioning="hive").to_table()
    assert table.column_names == ["id", "shop"]
    return int(table.to_pandas()["id"].nunique())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_wrong_key_is_refused_at_once(
    connection: str, container: str, tmp_path: Path, jars: None
) -> None:
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": connection.replace(azurite.KEY, "A" * 86 + "==")
    }
    done = child(environment, f"az://{container}/lines", tmp_path)
    assert done.returncode == 1
    assert "403" in done.stderr
    assert "A" * 86 not in done.stderr


def test_jars_that_were_fetched_are_used_before_any_are_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_JARS", str(tmp_path))
    assert "spark.jars" not in hadoop.azure_packages()
    assert "hadoop-azure:3.5.0" in hadoop.azure_packages()["spark.jars.packages"]
    (tmp_path / "org.apache.hadoop_hadoop-azure-3.5.0.jar").touch()
    (tmp_path / "other.jar").touch()
    jars = hadoop.azure_packages()["spark.jars"].split(",")
    assert jars == sorted(str(path) for path in tmp_path.glob("*.jar"))


def test_without_a_source_of_jars_the_error_names_the_cures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", "http://127.0.0.1:9/")
    monkeypatch.setattr(hadoop, "PACKAGES", ("org.example:nowhere:1",))
    with pytest.raises(RecsysError, match="DEFAULT_ARTIFACT_REPOSITORY.*RECSYS_JARS"):
        hadoop.fetch_jars(tmp_path / "jars")
    assert not (tmp_path / "jars").exists()


class Session:
    """Stands in for a session that was started with or without the jars."""

    def __init__(self, jars: bool) -> None:
        self.settings: dict[str, str] = {}
        self.found = object() if jars else None
        java = SimpleNamespace(hadoopConfiguration=lambda: self)
        self.sparkContext = SimpleNamespace(_jsc=java)

    def getClassByNameOrNull(self, name: str) -> object | None:  # noqa: N802
        return self.found

    def set(self, name: str, value: str) -> None:
        self.settings[name] = value


def test_a_session_without_the_jars_is_told_before_anything_is_read() -> None:
    place = azure_place("https://shopdata.blob.core.windows.net/tables")
    assert place is not None
    with pytest.raises(RecsysError, match="azure_packages"):
        hadoop.apply(cast(SparkSession, Session(jars=False)), [place])
    hadoop.apply(cast(SparkSession, Session(jars=False)), [])


def test_a_session_reaches_several_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(AZURE)]:
        monkeypatch.delenv(name)
    session: Any = Session(jars=True)
    for account in ("shopdata", "shopmodels"):
        place = azure_place(f"abfss://tables@{account}.dfs.core.windows.net/x")
        assert place is not None
        hadoop.apply(session, [place])
    types = {n for n in session.settings if n.startswith("fs.azure.account.auth.type")}
    assert types == {
        "fs.azure.account.auth.type.shopdata.dfs.core.windows.net",
        "fs.azure.account.auth.type.shopmodels.dfs.core.windows.net",
    }
