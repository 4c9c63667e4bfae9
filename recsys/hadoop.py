"""Spark's way to Azure: the jars of Hadoop's ABFS driver, and the credentials, kept off sight.

python -m recsys.hadoop            fetch the jars once, into the environment's folder `jars`
python -m recsys.hadoop FOLDER     or into another one, for RECSYS_JARS
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from recsys.errors import RecsysError
from recsys.storage.azure import AzurePlace, hadoop_settings

# Of the Hadoop that Spark 4.3.0 ships.
PACKAGES = (
    "org.apache.hadoop:hadoop-azure:3.5.0",
    "org.wildfly.openssl:wildfly-openssl:2.2.5.Final",
)
DRIVER_JAR = "*hadoop-azure-3.5.0.jar"
DRIVER_CLASS = "org.apache.hadoop.fs.azurebfs.AzureBlobFileSystem"
# Spark's own words, and Azure's account keys: what the environment page and event logs leave out.
REDACTION = "(?i)secret|password|token|access[.]?key|account[.]key"
FETCHING = 600.0


def jars_folder() -> Path:
    """Return where the jars belong: `RECSYS_JARS`, or `jars` in the Python environment."""
    return Path(os.environ.get("RECSYS_JARS") or Path(sys.prefix) / "jars")


def azure_packages() -> dict[str, str]:
    """Return the settings a Spark session must start with to reach Azure's storage.

    The jars that were fetched before, or else their names, for Spark to fetch at every start.
    """
    folder = jars_folder()
    redaction = {"spark.redaction.regex": REDACTION}
    if any(folder.glob(DRIVER_JAR)):
        return {"spark.jars": ",".join(sorted(map(str, folder.glob("*.jar"))))} | redaction
    # Not in the home folder, which a task on a node may not have.
    ivy = Path(tempfile.gettempdir()) / f"recsys-ivy-{os.getuid()}"
    return {"spark.jars.packages": ",".join(PACKAGES), "spark.jars.ivy": str(ivy)} | redaction


def apply(spark: SparkSession, places: Iterable[AzurePlace]) -> None:
    """Let a running session read and write some places.

    The credentials go into the running Hadoop configuration, which Spark hands to its tasks with
    the work: they stand on no command line, in no setting of the session, in no log. Hadoop keeps
    what it opened: a credential that was replaced counts from the next session on.

    Args:
        spark: started with the settings of `azure_packages`.
        places: what it is to read and write; may be called again with others.

    Raises:
        RecsysError: the session has no jars for Azure.
        UsageError: the environment gives no access to a place.
    """
    places = list(places)
    if not places:
        return
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    if configuration.getClassByNameOrNull(DRIVER_CLASS) is None:
        raise RecsysError(
            "This Spark session was started without Azure's jars: start it with the settings of "
            "recsys.hadoop.azure_packages()."
        )
    for place in places:
        for name, value in hadoop_settings(place).items():
            configuration.set(name, value)


def fetch_jars(folder: Path | None = None) -> list[Path]:
    """Fetch the jars and what they need, once, for sessions that start without a network.

    Spark resolves them itself, as for `--packages`: from Maven Central, or the mirror in
    `DEFAULT_ARTIFACT_REPOSITORY`.

    Args:
        folder: where to; None: `jars_folder()`.

    Raises:
        RecsysError: they could not be fetched.
    """
    folder = folder or jars_folder()
    with tempfile.TemporaryDirectory() as scratch:
        _resolve(Path(scratch))
        fetched = sorted(Path(scratch, "jars").glob("*.jar"))
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(jar, folder / jar.name)) for jar in fetched]


def _resolve(scratch: Path) -> None:
    """Let Spark resolve the packages and run a program that does nothing."""
    nothing = scratch / "nothing.py"
    nothing.touch()
    home = Path(pyspark.__file__).parent
    command = [home / "bin" / "spark-submit", "--packages", ",".join(PACKAGES)]
    command += ["--conf", f"spark.jars.ivy={scratch}", nothing]
    environment = os.environ | {"SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=FETCHING,
        )
        reason = None if done.returncode == 0 else _reason(done.stderr)
    except subprocess.TimeoutExpired:
        reason = f"no answer in {FETCHING:.0f} s"
    if reason is not None:
        raise RecsysError(
            f"Spark's jars for Azure could not be fetched ({reason}): let this machine reach Maven "
            "Central, set DEFAULT_ARTIFACT_REPOSITORY to a mirror, or copy the folder of a machine "
            "that has them and name it in RECSYS_JARS."
        )


def _reason(log: str) -> str:
    """Return the last line of a log that tells what went wrong."""
    telling = [line.strip() for line in log.splitlines() if "rror" in line or "not found" in line]
    return (telling or ["spark-submit failed"])[-1][:200]


if __name__ == "__main__":
    for jar in fetch_jars(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(jar)
