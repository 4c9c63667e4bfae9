"""The one place that builds a SparkSession and hands work to its tasks."""

import gc
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pyspark.sql import SparkSession

from recsys import hadoop
from recsys.errors import RecsysError
from recsys.progress import silence
from recsys.storage import Place, azure_places, make_folder, place_of, remove_folder

T = TypeVar("T")
R = TypeVar("R")


class OneTask:
    """A pool that is this process: work that runs inside a task, one piece after another."""


HERE = OneTask()
# What fits and evaluations run on. The same code gives the same numbers on either.
Pool = SparkSession | OneTask

ROOT = Path(__file__).resolve().parent.parent
# What holds on a laptop and on a pool alike. What depends on the machine comes from the environment
# (see `spark_session`); `docs/engineer.md` says what to set where.
SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    # What pyarrow, pandas and DuckDB read as an instant in UTC; Spark's old default is not.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Adaptive execution merges shuffle partitions that are small, so the number may be generous:
    # two a core level out uneven ones where there is much data.
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
    # Tables that pass between the JVM and Python do so in Arrow batches, never row by row.
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "100000",
    # A worker keeps its imports and its mapped files from task to task.
    "spark.python.worker.reuse": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Side effects of a lost node are redone; those of a slow one must not be done twice.
    "spark.speculation": "false",
    "spark.decommission.enabled": "true",
    "spark.storage.decommission.enabled": "true",
}
TASKS_A_CORE = 4
LOG_SETTINGS = f"-Dlog4j2.configurationFile={(ROOT / 'recsys' / 'log4j2.properties').as_uri()}"
LOCAL_SETTINGS = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}


def spark_session(name: str = "recsys", *places: str | None) -> SparkSession:
    """Return the running session, or start one.

    `SPARK_MASTER` chooses the cluster (default `local[*]`), `SPARK_DRIVER_MEMORY` the driver's
    heap (default 3g), which holds the JVM's sorts and shuffles; arrays live in mapped files and
    in the Python workers, outside it. Executors run the driver's Python version. A task has one
    BLAS thread: Spark fills the cores with tasks.

    Args:
        name: of the application.
        places: what it will read and write; for Azure's storage Spark needs jars and credentials.

    Raises:
        RecsysError: no Java 17 or newer was found.
    """
    azure = azure_places(*places, os.environ.get("RECSYS_SCRATCH"))
    check_java()
    master = os.environ.get("SPARK_MASTER", "local[*]")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    _add_to_python_path(str(ROOT))
    builder = (
        SparkSession.builder.appName(name)
        .master(master)
        .config("spark.driver.extraJavaOptions", LOG_SETTINGS)
        .config("spark.driver.memory", os.environ.get("SPARK_DRIVER_MEMORY", "3g"))
    )
    settings = SETTINGS | (LOCAL_SETTINGS if master.startswith("local") else {})
    for key, value in (settings | (hadoop.azure_packages() if azure else {})).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if azure:
        hadoop.apply(spark, azure)
    spark.sparkContext.setLogLevel("ERROR")
    # Every error reaches the caller as an exception; its JVM trace need not be printed as well.
    logging.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    return spark


def run_tasks(pool: Pool, task: Callable[[T], R], inputs: Sequence[T]) -> list[R]:
    """Run `task` once an input on the pool and return the small results in order.

    A task may run more than once (a lost node), so what it writes must be idempotent.
    """
    inputs = list(inputs)
    if isinstance(pool, OneTask):
        return [task(value) for value in inputs]
    if not inputs:
        return []
    slices = min(len(inputs), most_tasks(pool))

    def run(value: T) -> R:
        silence()
        result = task(value)
        _spare_imports()
        return result

    return pool.sparkContext.parallelize(inputs, slices).map(run).collect()


_spared = 0


def _spare_imports() -> None:
    """Keep the garbage collector from looking through all that a worker has imported.

    PySpark collects after every task, which takes longer than many a task does.
    """
    global _spared
    if len(sys.modules) != _spared:
        _spared = len(sys.modules)
        gc.freeze()


@contextmanager
def scratch_folder(pool: Pool, name: str, inside: str | None = None) -> Iterator[Place]:
    """Give an empty folder that all tasks of a pool can reach, and remove it at the end.

    On one machine it lies in the system's folder for such things. On a pool of several,
    RECSYS_SCRATCH names a folder in a cloud that all of them reach.

    Args:
        pool: where the tasks run; one task needs only its own machine's disk.
        name: of the step, to be recognised by.
        inside: a local folder to make it in; None for the system's.
    """
    shared = os.environ.get("RECSYS_SCRATCH")
    if isinstance(pool, OneTask) or inside is not None or not shared:
        with tempfile.TemporaryDirectory(prefix=f"recsys-{name}-", dir=inside) as folder:
            yield Path(folder)
        return
    place = place_of(shared) / f"{name}-{uuid.uuid4().hex[:12]}"
    make_folder(place)
    try:
        yield place
    finally:
        remove_folder(place)


def cores_of(pool: Pool) -> int:
    """Return how many tasks run at once."""
    return 1 if isinstance(pool, OneTask) else int(pool.sparkContext.defaultParallelism)


def most_tasks(pool: Pool) -> int:
    """Return how many tasks a job is cut into at most.

    Starting a Python task takes some hundredths of a second: a few a core level out uneven ones.
    """
    return TASKS_A_CORE * cores_of(pool)


def even_tasks(pool: Pool, worth: int) -> int:
    """Return how many tasks to cut work into that can be shared out evenly.

    Args:
        pool: where they run.
        worth: how many tasks the work is worth starting.

    Returns:
        A multiple of the cores, so that none waits for the last: one a core, or more where the
        work is worth it, up to `most_tasks`.
    """
    cores = cores_of(pool)
    return min(max(1, worth // cores) * cores, most_tasks(pool))


def check_java() -> None:
    """Raise RecsysError, naming the cure, where Spark would not find Java."""
    home = os.environ.get("JAVA_HOME")
    if home and not (Path(home) / "bin" / "java").exists():
        raise RecsysError(
            f"JAVA_HOME={home} holds no bin/java: correct it, or unset it to use java on the PATH."
        )
    if not home and shutil.which("java") is None:
        raise RecsysError(
            "Spark needs Java 17 or newer: run `make setup`, install it "
            "(Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME."
        )


def _add_to_python_path(folder: str) -> None:
    """Let the workers, which the JVM starts, import this project too."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, paths)])
