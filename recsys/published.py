"""A published folder: its parts as tasks write them, its tables as readers see them.

Readers open the files that the manifest of the highest commit lists, never a glob.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from recsys.errors import DataError
from recsys.storage import Commit, CommitLog, read_bytes, sha256_file, store_of

MANIFEST = "_manifest.json"
TABLES = ("recommendations", "audience")


@dataclass(frozen=True)
class Part:
    """One file of a table, as its manifest lists it.

    Attributes:
        table: the table's name.
        path: relative to the run folder.
        rows: number of rows.
        bytes: its size.
        sha256: of its content.
    """

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str


def write_part(run: Path, table: str, name: str, rows: pa.Table) -> Part:
    """Write one file of a table from a task and describe it.

    Args:
        run: the run's folder.
        table: the table's name.
        name: the file's name, different for each attempt of a task.
        rows: its content.
    """
    path = run / table / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd")
    size = path.stat().st_size
    return Part(table, f"{table}/{name}", len(rows), size, sha256_file(path))


def read_published(
    spark: SparkSession,
    output: str | Path,
    table: str = "recommendations",
    commit: int | None = None,
) -> DataFrame:
    """Read a published table.

    Args:
        spark: the session.
        output: the folder that `batch_score` publishes to.
        table: `recommendations` or `audience`.
        commit: number of the commit; None for the newest.

    Raises:
        DataError: nothing was published there, or the table has no files.
    """
    files = published_files(output, table, commit)
    return spark.read.parquet(*files)


def published_files(
    output: str | Path, table: str = "recommendations", commit: int | None = None
) -> list[str]:
    """Return the paths of a published table's files; see `read_published`."""
    chosen, manifest = read_manifest(output, commit)
    run = Path(output) / Path(chosen.payload["manifest"]).parent
    files = [str(run / part["path"]) for part in manifest["files"] if part["table"] == table]
    if not files:
        raise DataError(f"Commit {chosen.number} of {output} has no table {table!r}.")
    return files


def read_manifest(output: str | Path, commit: int | None = None) -> tuple[Commit, dict[str, Any]]:
    """Read the manifest that a commit points to, checked against the commit.

    Raises:
        DataError: there is no commit, or its manifest is missing or altered.
    """
    store = store_of(output)
    log = CommitLog(store)
    chosen = log.head() if commit is None else log.read(commit)
    if chosen is None:
        raise DataError(f"Nothing was published in {output} yet: run batch_score first.")
    data = read_bytes(store, chosen.payload["manifest"])
    if data is None or hashlib.sha256(data).hexdigest() != chosen.payload["manifest_sha256"]:
        raise DataError(
            f"The manifest of commit {chosen.number} in {output} is missing or was changed: "
            "publish again with batch_score."
        )
    manifest: dict[str, Any] = json.loads(data)
    return chosen, manifest
