"""The row folders of a state: named, read, merged, removed."""

import re
import uuid
from dataclasses import replace
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.data.interactions import kept
from recsys.data.source import FILE
from recsys.data.stream.state import State, save
from recsys.errors import DataError
from recsys.storage import keys_of, remove_folder, spark_source, store_of

ROWS = "rows"
NAME = re.compile(rf"{ROWS}/\d{{4}}-\d\d-\d\d-[0-9a-f]{{12}}")
MOST_FOLDERS = 50
# Longer than an attempt can take, so that what nobody names by then nobody will.
KEPT = timedelta(days=1)


def new_folder(day: date) -> str:
    """Name a folder for rows."""
    return f"{ROWS}/{day.isoformat()}-{uuid.uuid4().hex[:12]}"


def rows_of(spark: SparkSession, state: State, folders: list[str]) -> DataFrame:
    """Read the rows that count of some row folders."""
    plain = [folder for folder in folders if not state.stale.get(folder)]
    parts = [spark.read.parquet(*(spark_source(state.place / f) for f in plain))] if plain else []
    for folder in (folder for folder in folders if state.stale.get(folder)):
        rows = spark.read.parquet(spark_source(state.place / folder))
        parts.append(rows.where(~F.col(FILE).isin(*state.stale[folder])))
    if not parts:
        raise DataError("no file was taken yet: put files into the landing folder.")
    result = parts[0]
    for part in parts[1:]:
        result = result.unionByName(part)
    return result


def compact(spark: SparkSession, state: State, today: date) -> State:
    """Merge the row folders of each finished day into one; all of them where they are many."""
    finished = [f for f in state.folders if _day_of(f) < today.isoformat()]
    many = len(finished) > MOST_FOLDERS
    by_day: dict[str, list[str]] = {}
    for folder in finished:
        by_day.setdefault(_day_of(finished[-1] if many else folder), []).append(folder)
    merged = {day: folders for day, folders in by_day.items() if len(folders) > 1}
    if not merged:
        return state
    taken = dict(state.taken)
    for day, folders in merged.items():
        into = new_folder(date.fromisoformat(day))
        kept(rows_of(spark, state, folders).coalesce(_files(spark)), state.place / into)
        for name, known in state.taken.items():
            if known.folder in folders:
                taken[name] = replace(known, folder=into)
    state = replace(state, taken=taken)
    return save(replace(state, stale={f: u for f, u in state.stale.items() if f in state.folders}))


def clean(state: State, now: datetime) -> None:
    """Remove row folders that no commit names any more, or that a killed attempt left behind.

    Only what has the name of a row folder: what else lies there is not the stream's.
    """
    newest: dict[str, datetime] = {}
    for key, changed in keys_of(store_of(state.place), ROWS).items():
        folder = "/".join(key.split("/")[:2])
        newest[folder] = max(changed, newest.get(folder, changed))
    for folder, changed in newest.items():
        nobodys = NAME.fullmatch(folder) and folder not in state.folders
        if nobodys and changed < now - KEPT:
            remove_folder(state.place / folder)


def _day_of(folder: str) -> str:
    return folder.partition("/")[2][: len("2000-01-01")]


def _files(spark: SparkSession) -> int:
    """Return into how many files a merged folder is written."""
    return int(spark.sparkContext.defaultParallelism)
