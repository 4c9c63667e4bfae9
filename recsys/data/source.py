"""Find and read a retailer's files: every value as text, every row kept."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DoubleType,
    FloatType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from recsys.data.globs import files_of, kind_of
from recsys.data.mapping import Mapping
from recsys.errors import DataError, UsageError
from recsys.storage import Place, opened, spark_path, spark_source

SOURCE, LINE, FILE = "source", "line", "source_file"
# A header is far shorter; of a file in a cloud no more is fetched to see it.
HEADER_BYTES = 1 << 20
# What stands for bytes that are no characters of an encoding.
UNKNOWN = "\ufffd"


class UnreadableFileError(DataError):
    """A file is truncated, damaged, or not the format its name says.

    Attributes:
        path: the file's path or name.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        name = path.rstrip("/").rpartition("/")[2]
        super().__init__(
            f"{name} cannot be read (truncated, damaged, or not the format its name says): "
            "fetch it again, or leave it out."
        )


@dataclass(frozen=True)
class Files:
    """The files of one source.

    Attributes:
        name: the source as the user gave it.
        paths: in the order of their names.
        kind: `csv` or `parquet`.
        columns: their columns; all files have the same.
    """

    name: str
    paths: tuple[str, ...]
    kind: str
    columns: tuple[str, ...]


def find_files(source: str, mapping: Mapping) -> Files:
    """Find the files of a source and check that their columns agree.

    Args:
        source: a CSV, CSV.gz or Parquet file, a folder of such files, or a glob.
        mapping: names the separator and encoding of CSV files.

    Raises:
        UsageError: the source does not exist or mixes CSV with Parquet.
        DataError: no files, no header, an unreadable file or name, or files whose columns differ.
    """
    paths = files_of(source)
    for path in paths:
        check_file_name(str(path))
    kinds = {kind_of(path) for path in paths}
    if len(kinds) > 1:
        raise UsageError(f"{source} mixes CSV and Parquet: give a glob such as 'folder/*.csv'.")
    kind = str(kinds.pop())
    headers = {path: header_of(path, kind, mapping) for path in paths}
    filled = {path: header for path, header in headers.items() if header}
    if not filled:
        raise DataError(f"{source} is empty: give files with a header line and rows.")
    first, columns = next(iter(filled.items()))
    for path, header in filled.items():
        if header != columns:
            raise DataError(
                f"{path.name} has the columns {', '.join(header)} but {first.name} has "
                f"{', '.join(columns)}: ingest files of one form at a time."
            )
    check_names(first.name, columns)
    return Files(source, tuple(spark_path(path) for path in filled), kind, columns)


def read_rows(spark: SparkSession, files: Files, mapping: Mapping) -> DataFrame:
    """Read every row: `source` (a struct of the columns as text), `line` and `source_file`.

    `line` is the whole text of a CSV row that has not one field a column, else null.
    `source_file` is the URI of the file that the row stands in.
    """
    if files.kind == "parquet":
        rows = spark.read.parquet(*map(spark_source, files.paths))
        fields = [_text(rows.schema[name].dataType, _quoted(name)) for name in files.columns]
        line = F.lit(None).cast("string")
    else:
        rows = _read_csv(spark, files, mapping)
        fields = [_quoted(name) for name in files.columns]
        line = _quoted(_line_column(files))
    named = [field.alias(name) for field, name in zip(fields, files.columns, strict=True)]
    file = rows.metadataColumn("_metadata")["file_path"].alias(FILE)
    return rows.select(F.struct(*named).alias(SOURCE), line.alias(LINE), file)


@contextmanager
def reading(spark: SparkSession, files: Files) -> Iterator[None]:
    """Turn Spark's failure to read a file into one sentence, without its stack traces.

    Raises:
        DataError: a file is truncated or damaged.
    """
    try:
        with quiet(spark):
            yield
    except Exception as error:
        text = str(error)
        if "FAILED_READ_FILE" not in text:
            raise
        # The longest, for one file's name may begin with another's.
        named = [path for path in files.paths if bare_path(path) in unquote(text)]
        raise UnreadableFileError(max(named, key=len, default=files.name)) from error


@contextmanager
def quiet(spark: SparkSession) -> Iterator[None]:
    """Keep Spark's stack traces off the terminal: every error reaches the caller as an exception.

    Within another `quiet`, even in another thread, that one decides when traces are shown again.
    """
    jvm: Any = spark._jvm
    former = jvm.org.apache.logging.log4j.LogManager.getRootLogger().getLevel().toString()
    spark.sparkContext.setLogLevel("OFF")
    try:
        yield
    finally:
        spark.sparkContext.setLogLevel(former)


def header_of(path: Place, kind: str, mapping: Mapping) -> tuple[str, ...]:
    """Read a file's column names; none where the file is empty.

    Raises:
        UnreadableFileError: it is truncated, damaged, or of another format.
        DataError: its header is written in another encoding.
        UsageError: the mapping's encoding is not known.
    """
    try:
        encoding = "utf-8-sig" if mapping.encoding.upper() == "UTF-8" else mapping.encoding
        with opened(path) as file:
            if kind == "parquet":
                return tuple(pq.read_schema(file).names)
            start = io.BytesIO(file.read(HEADER_BYTES))
            unpacked = gzip.GzipFile(fileobj=start) if path.name.lower().endswith(".gz") else start
            # More than the header is decoded here; of a row it is judged later, by itself.
            lines = io.TextIOWrapper(
                cast(BinaryIO, unpacked), encoding=encoding, errors="replace", newline=""
            )
            rows = csv.reader(lines, delimiter=mapping.separator)
            names = tuple(name.strip() for name in next(filter(None, rows), []))
    except LookupError:
        raise UsageError(f"the mapping's encoding {mapping.encoding!r} is not known.") from None
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise UnreadableFileError(path.name) from error
    if any(UNKNOWN in name for name in names):
        raise DataError(
            f"{path.name} has a header that is not {mapping.encoding}: name the file's `encoding` "
            f"in the mapping, or export it as {mapping.encoding}."
        )
    return names


def check_file_name(path: str) -> None:
    """Raise DataError where Spark cannot read a file of such a name."""
    name = path.rpartition("/")[2]
    if ":" in name:
        raise DataError(f"{name} has a colon in its name, which Spark cannot read: rename it.")
    shown = printable(path)
    if shown != path:
        raise DataError(f"{shown} has a name that is not UTF-8: rename it.")


def printable(path: str) -> str:
    """Return a path with a sign in the place of bytes that are no UTF-8."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def check_names(file: str, columns: Sequence[str]) -> None:
    """Raise DataError where a file names a column twice."""
    if len(set(columns)) < len(columns):
        raise DataError(f"{file} names a column twice: rename one of {', '.join(columns)}.")


def bare_path(uri: str) -> str:
    """Return a path or URI without what Spark writes in another way: `file:/x`, `file:///x`."""
    return (uri.partition(":/")[2] if ":/" in uri else uri).strip("/")


def _read_csv(spark: SparkSession, files: Files, mapping: Mapping) -> DataFrame:
    line = _line_column(files)
    names = (*files.columns, line)
    schema = StructType([StructField(name, StringType()) for name in names])
    options = {
        "header": "true",
        "sep": mapping.separator,
        "encoding": mapping.encoding,
        "quote": '"',
        "escape": '"',
        # Spark's default here is NUL, which would swallow the very character that we look for.
        "charToEscapeQuoteEscaping": "\ufffe",
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": line,
    }
    return spark.read.options(**options).schema(schema).csv([*map(spark_source, files.paths)])


def _line_column(files: Files) -> str:
    """Name the column of malformed lines as no column of the source is named."""
    longest = max(files.columns, key=len)
    return f"_line_{longest}"


def _quoted(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _text(kind: DataType, column: Column) -> Column:
    """Write a Parquet value as a CSV export would."""
    if isinstance(kind, DoubleType | FloatType):
        whole = (column % 1 == 0) & (F.abs(column) < 1e15)
        return F.when(whole, column.cast("long").cast("string")).otherwise(column.cast("string"))
    if isinstance(kind, TimestampType):
        # An instant, not a time on the shop's clock: it says so.
        return F.date_format(column, "yyyy-MM-dd HH:mm:ss.SSSSSS'Z'")
    return column.cast("string")
