"""Show rows: an aligned table for a terminal, CSV and Parquet for other programs."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, MapType, StructType, VariantType

from recsys.errors import UsageError
from recsys.storage import Place, make_folder, write_file, write_parquet

WIDEST = 60
# Digits of a number; more where the hundredths of an amount need them and a double still has them.
DIGITS, MOST_WHOLE_DIGITS = 10, 15


def as_text(frame: DataFrame, most: int) -> str:
    """Write a result as an aligned table with the number of its rows.

    Args:
        frame: the result.
        most: rows to show; that there are more is said, they are not counted.
    """
    table = frame.limit(most + 1).toArrow()
    lines, count = aligned(table.slice(0, most)), len(table)
    if count > most:
        told = f"the first {most:,} rows; --rows shows more, --format csv or parquet writes all"
    else:
        told = f"{count:,} row{'' if count == 1 else 's'}"
    return "\n".join([*lines, f"({told})"])


def aligned(table: pa.Table) -> list[str]:
    """Write rows in columns under their names, numbers to the right."""
    columns = [
        _padded([name, None, *map(cell, values.to_pylist())], _is_number(values.type))
        for name, values in zip(table.column_names, table.columns, strict=True)
    ]
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def as_markdown(table: pa.Table) -> list[str]:
    """Write rows as a table of a page, numbers to the right."""
    columns = [
        [name, "---:" if _is_number(values.type) else "---", *map(whole_cell, values.to_pylist())]
        for name, values in zip(table.column_names, table.columns, strict=True)
    ]
    lines = zip(*columns, strict=True)
    return [
        f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in lines
    ]


def cell(value: Any) -> str:
    """Write one value on one line; a long one is cut."""
    text = whole_cell(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def whole_cell(value: Any) -> str:
    """Write one value on one line."""
    return " ".join(_text(value).split())


def as_csv(frame: DataFrame) -> bytes:
    """Write every row as CSV, text in quotes; arrays and maps as JSON.

    Raises:
        UsageError: a column has no form in CSV.
    """
    return _csv(_flat(frame).toArrow())


def write(frame: DataFrame, kind: str, output: Place) -> int:
    """Write every row to one CSV or Parquet file and return how many there are.

    Raises:
        UsageError: a column has no form in CSV.
    """
    table: pa.Table = (_flat(frame) if kind == "csv" else frame).toArrow()
    if isinstance(output, Path):
        make_folder(output.parent)
    if kind == "csv":
        write_file(output, _csv(table))
    else:
        write_parquet(output, table)
    return int(table.num_rows)


def _csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _flat(frame: DataFrame) -> DataFrame:
    """Write what CSV has no form for as JSON."""
    for field in frame.schema:
        if isinstance(field.dataType, BinaryType):
            raise UsageError(
                f"CSV has no form for the bytes of {field.name}: cast it to text, such as "
                f"hex({field.name}), or write Parquet."
            )
    kinds = ArrayType | MapType | StructType | VariantType
    nested = [field.name for field in frame.schema if isinstance(field.dataType, kinds)]
    return frame.withColumns({name: F.to_json(f"`{name}`") for name in nested}) if nested else frame


def _padded(cells: Sequence[str | None], right: bool) -> list[str]:
    """Bring a column's cells to one width; None is the line under the name."""
    width = max(len(text) for text in cells if text is not None)
    whole = ["-" * width if text is None else text for text in cells]
    return [text.rjust(width) if right else text.ljust(width) for text in whole]


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _text(value: Any) -> str:
    """Write a value: arrays in brackets, maps, which Arrow gives as pairs, in braces."""
    if value is None:
        return "null"
    if isinstance(value, float):
        whole = len(f"{abs(value):.0f}")
        digits = whole + 2 if whole <= MOST_WHOLE_DIGITS else DIGITS
        return f"{value:.{max(DIGITS, digits)}g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return f"{{{', '.join(f'{key}: {_text(inner)}' for key, inner in value)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
