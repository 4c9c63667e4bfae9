"""A published folder: its parts as tasks write them, its tables as readers see them.

<output>/runs/<run>/<table>/part-*.parquet    written once, never rewritten
<output>/runs/<run>/_manifest-*.json          files, bytes, rows, SHA-256, facts
<output>/_commits/00000001.json               create-only: this is the commit

Readers open the files that the manifest of the highest commit lists, never a glob: what a killed
or repeated task left behind is never seen.
"""

import builtins
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import ObjectStore
from pyspark.sql import DataFrame, SparkSession

from recsys.errors import DataError
from recsys.storage import Commit, CommitLog, put, read_bytes, spark_source, store_of

# Named by its content: two runs of one slot may both write theirs.
MANIFEST = "_manifest-{}.json"
RECOMMENDATIONS, AUDIENCE = TABLES = ("recommendations", "audience")
# A reader who asks for one customer opens one such group of a file; the files are sorted by
# customer, and each holds a range of them.
ROWS_A_GROUP = 100_000


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

    def matches(self, data: "builtins.bytes") -> bool:
        """Tell whether this is the file's content."""
        return hashlib.sha256(data).hexdigest() == self.sha256


def write_part(store: ObjectStore, run: str, table: str, name: str, rows: pa.Table) -> Part:
    """Write one file of a table from a task and describe it.

    Args:
        store: of the published folder.
        run: the run's folder in it.
        table: the table's name.
        name: the file's name, different for each attempt of a task.
        rows: its content.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", row_group_size=ROWS_A_GROUP)
    data = sink.getvalue().to_pybytes()
    put(store, f"{run}/{table}/{name}", data)
    return Part(table, f"{table}/{name}", len(rows), len(data), hashlib.sha256(data).hexdigest())


def read_part(
    store: ObjectStore, run: str, part: Part, columns: list[str] | None = None
) -> pa.Table:
    """Read columns of one file, or all, checked against what its manifest says.

    Raises:
        DataError: it is missing, or is not what was written.
    """
    data = read_bytes(store, f"{run}/{part.path}")
    if data is None or not part.matches(data):
        raise DataError(f"{run}/{part.path} is missing or was changed: publish again.")
    return pq.read_table(pa.BufferReader(data), columns=columns)


def read_published(
    spark: SparkSession,
    output: str | Path,
    table: str = RECOMMENDATIONS,
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
    return spark.read.parquet(*map(spark_source, files))


def published_table(
    output: str | Path, table: str = RECOMMENDATIONS, commit: int | None = None
) -> pa.Table:
    """Read a published table without Spark, from a disk or a cloud, each file checked.

    Arguments and errors as `read_published`.
    """
    chosen, manifest = read_manifest(output, commit)
    parts = parts_of(manifest, table)
    if not parts:
        raise DataError(f"Commit {chosen.number} of {output} has no table {table!r}.")
    store, run = store_of(output), run_of(chosen)
    return pa.concat_tables(read_part(store, run, part) for part in parts)


def published_files(
    output: str | Path, table: str = RECOMMENDATIONS, commit: int | None = None
) -> list[str]:
    """Return the paths of a published table's files; see `read_published`."""
    chosen, manifest = read_manifest(output, commit)
    run, folder = run_of(chosen), str(output).rstrip("/")
    files = [
        f"{folder}/{run}/{part['path']}" for part in manifest["files"] if part["table"] == table
    ]
    if not files:
        raise DataError(f"Commit {chosen.number} of {output} has no table {table!r}.")
    return files


def run_of(commit: Commit) -> str:
    """Return the run folder that a commit points to, inside the published folder."""
    return str(commit.payload["manifest"]).rpartition("/")[0]


def parts_of(manifest: dict[str, Any], table: str) -> list[Part]:
    """Return the files of a table that a manifest lists."""
    return [Part(**part) for part in manifest["files"] if part["table"] == table]


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
    return chosen, manifest_of(store, chosen)


def manifest_of(store: ObjectStore, chosen: Commit) -> dict[str, Any]:
    """Read the manifest that a commit points to; raises DataError as `read_manifest`."""
    data = read_bytes(store, chosen.payload["manifest"])
    if data is None or hashlib.sha256(data).hexdigest() != chosen.payload["manifest_sha256"]:
        scored = "strategy" in chosen.payload.get("facts", {})
        again = "publish again with batch_score, or go back to another commit with republish"
        raise DataError(
            f"The manifest of commit {chosen.number} is missing or was changed: "
            f"{again if scored else 'run measure again'}."
        )
    manifest: dict[str, Any] = json.loads(data)
    return manifest
