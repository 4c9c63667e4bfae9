"""Small published tables, all of whose rows carry their number, and how users read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from obstore.store import ObjectStore

from deploy.publish import publish
from recsys.published import RECOMMENDATIONS, Part, published_files, published_table, write_part
from recsys.storage import CommitLog

ROWS = 400


def parts_of_run(store: ObjectStore, run: str, number: int) -> list[Part]:
    """Write a table of two files, all of whose rows carry its number."""
    rows = pa.table({"row": range(ROWS), "number": [number] * ROWS})
    halves = (rows.slice(0, ROWS // 2), rows.slice(ROWS // 2))
    return [
        write_part(store, run, RECOMMENDATIONS, f"part-{half}.parquet", table)
        for half, table in enumerate(halves)
    ]


def facts(number: int) -> dict[str, Any]:
    return {"number": number, "audits": [], "strategy": {"name": "s"}, "slot": str(number)}


def published(store: ObjectStore, number: int, strategy: str = "s") -> int:
    run = f"runs/{strategy}/{number:04d}"
    head = CommitLog(store).head()
    expected = head.number if head else 0
    parts = parts_of_run(store, run, number)
    return publish(store, run, parts, facts(number), expected).number


def readers(url: str | Path) -> dict[str, Callable[[str | Path], tuple[int, int]]]:
    """Return how people read a table that lies there: its rows, and the runs among them."""
    if "://" in str(url):
        return {"arrow": by_arrow}
    return {"arrow": by_arrow, "pandas": by_pandas, "duckdb": by_duckdb}


def by_arrow(output: str | Path) -> tuple[int, int]:
    table = published_table(output)
    return len(table), len(set(table["number"].to_pylist()))


def by_pandas(output: str | Path) -> tuple[int, int]:
    table = pd.concat(pd.read_parquet(file) for file in published_files(output))
    return len(table), table["number"].nunique()


def by_duckdb(output: str | Path) -> tuple[int, int]:
    found = duckdb.execute(
        "select count(*), count(distinct number) from read_parquet(?)", [published_files(output)]
    ).fetchone()
    assert found is not None
    return found[0], found[1]
