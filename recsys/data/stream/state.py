"""What a stream has taken: a log of commits, and the rows that they name.

    <state>/_commits/00000001.json    create-only: which files were taken, refused, wait
    <state>/rows/<day>-<id>/…         their rows, written once, named by a commit
    <state>/checkpoint/<id>/…         Spark's own

A commit carries what it changes; a snapshot carries all, so that reading begins at the last one.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping as Named
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.data.interactions import kept
from recsys.data.mapping import Mapping
from recsys.data.source import FILE
from recsys.errors import DataError, UsageError
from recsys.storage import (
    Commit,
    CommitLog,
    Place,
    beside,
    keys_of,
    make_folder,
    remove_folder,
    spark_path,
    store_of,
)

ROWS, CHECKPOINT = "rows", "checkpoint"
# Of a mapping, what rows are judged by when the tables are made; all else decides how they read.
JUDGING = {
    "version", "non_product_ids", "non_product_pattern", "max_quantity", "max_unit_price",
    "earliest", "latest", "stale_after_days", "heavy_customer_rows", "warn_share", "fail_share",
    "fail_share_of",
}  # fmt: skip
MOST_FOLDERS = 50
# Longer than an attempt can take, so that what nobody names by then nobody will.
KEPT = timedelta(days=1)
Verdict = Literal["taken", "duplicate", "refused", "waiting"]
# Kind and columns of files.
Form = tuple[str, tuple[str, ...]]
NOT_TAKEN: tuple[Verdict, ...] = ("duplicate", "refused", "waiting")


@dataclass(frozen=True)
class Known:
    """What became of a file.

    Attributes:
        verdict: taken, a duplicate of a taken one, refused, or waiting until it is complete.
        bytes: its size.
        version: of it, as the storage tells versions apart.
        sha256: of its content; empty where it was not read.
        reason: why it was not taken.
        rows: number of its rows.
        folder: that its rows lie in, inside the state folder.
        uri: what they name it by.
        commit: that its rows were first taken with.
    """

    verdict: Verdict
    bytes: int
    version: str
    sha256: str = ""
    reason: str = ""
    rows: int = 0
    folder: str = ""
    uri: str = ""
    commit: int = 0


@dataclass(frozen=True)
class State:
    """What a stream knows.

    Attributes:
        place: of the state folder.
        begun: id that it was given when it began.
        reading: digest of the part of the mapping that rows are read by.
        number: of the last commit.
        rows: number of the last commit that changed rows.
        kind: `csv` or `parquet`; empty before the first file was taken.
        columns: of the files.
        taken: name → taken file.
        others: name → file that was not taken as it lies there now.
        stale: row folder → URIs in it whose rows were read anew since.
    """

    place: Place
    begun: str
    reading: str
    number: int = 0
    rows: int = 0
    kind: str = ""
    columns: tuple[str, ...] = ()
    taken: dict[str, Known] = field(default_factory=dict)
    others: dict[str, Known] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        """Kind and columns of the files."""
        return self.kind, self.columns

    @property
    def folders(self) -> list[str]:
        """Names of the row folders that hold rows, oldest day first."""
        return sorted({known.folder for known in self.taken.values() if known.folder})

    def with_verdict(self, verdict: Verdict) -> dict[str, Known]:
        """Return the files of one verdict that were not taken."""
        return {name: k for name, k in sorted(self.others.items()) if k.verdict == verdict}


def reading_digest(mapping: Mapping) -> str:
    """Return a digest over what of a mapping decides how rows are read."""
    text = json.dumps(mapping.model_dump(mode="json", exclude=JUDGING), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_state(place: Place, mapping: Mapping) -> State:
    """Read the state, or begin one where there is none.

    Raises:
        UsageError: it was begun with a mapping that reads rows otherwise.
        BrokenLogError: a commit is missing or was altered.
    """
    make_folder(place)
    log = CommitLog(store_of(place))
    head = log.head()
    if head is None:
        return save(State(place, uuid.uuid4().hex, reading_digest(mapping)))
    commits: list[Commit] = [head]
    while "begun" not in commits[-1].payload:
        commits.append(log.read(commits[-1].number - 1))
    state = _restored(place, commits.pop().payload)
    for commit in reversed(commits):
        state = _after(state, commit.payload, commit.number)
    state = replace(state, number=head.number)
    if state.reading != reading_digest(mapping):
        raise UsageError(
            f"the stream's state in {place} was begun with a mapping that reads rows otherwise: "
            "give that mapping, or remove the state folder; all files of the landing folder are "
            "then read anew."
        )
    return state


def record(
    state: State,
    taken: Named[str, Known],
    others: Named[str, Known],
    gone: list[str],
    form: Form,
    rows: bool,
) -> State:
    """Commit what became of files.

    Args:
        state: to build on.
        taken: files to count as taken from now on.
        others: files to count as not taken.
        gone: names of files that were not taken and do not lie there any more.
        form: kind and columns of the files.
        rows: whether rows change.

    Raises:
        CommitConflict: another stream uses the same state.
    """
    payload = {
        "taken": {name: asdict(known) for name, known in sorted(taken.items())},
        "others": {name: asdict(known) for name, known in sorted(others.items())},
        "gone": sorted(gone),
        "form": [form[0], list(form[1])],
        "rows": rows,
    }
    commit = CommitLog(store_of(state.place)).append(payload, state.number)
    return _after(state, commit.payload, commit.number)


def save(state: State) -> State:
    """Commit all that is known, as a snapshot."""
    payload = asdict(state)
    del payload["place"], payload["number"]
    commit = CommitLog(store_of(state.place)).append(payload, state.number)
    return replace(state, number=commit.number)


def new_folder(day: date) -> str:
    """Name a folder for rows."""
    return f"{ROWS}/{day.isoformat()}-{uuid.uuid4().hex[:12]}"


def rows_of(spark: SparkSession, state: State, folders: list[str]) -> DataFrame:
    """Read the rows that count of some row folders."""
    plain = [folder for folder in folders if not state.stale.get(folder)]
    parts = [spark.read.parquet(*(spark_path(state.place / f) for f in plain))] if plain else []
    for folder in (folder for folder in folders if state.stale.get(folder)):
        rows = spark.read.parquet(spark_path(state.place / folder))
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
    """Remove row folders that no commit names any more, or that a killed attempt left behind."""
    newest: dict[str, datetime] = {}
    for key, changed in keys_of(store_of(state.place), ROWS).items():
        folder = "/".join(key.split("/")[:2])
        newest[folder] = max(changed, newest.get(folder, changed))
    for folder, changed in newest.items():
        if folder not in state.folders and changed < now - KEPT:
            remove_folder(state.place / folder)


def state_place(output: Place) -> Place:
    """Return the state folder of an output, where none is given."""
    return beside(output, f"{output.name}.stream")


def _after(state: State, payload: dict[str, Any], number: int) -> State:
    """Return the state after a commit."""
    taken, others = dict(state.taken), dict(state.others)
    stale = {folder: list(uris) for folder, uris in state.stale.items()}
    for name, fields in payload["taken"].items():
        known, former = Known(**fields), taken.get(name)
        if former and former.rows and former.folder != known.folder:
            stale.setdefault(former.folder, []).append(former.uri)
        taken[name] = known
        others.pop(name, None)
    others |= {name: Known(**fields) for name, fields in payload["others"].items()}
    for name in payload["gone"]:
        others.pop(name, None)
    kind, columns = payload["form"]
    rows = number if payload["rows"] else state.rows
    return replace(
        state, number=number, rows=rows, kind=kind, columns=tuple(columns), taken=taken,
        others=others, stale=stale,
    )  # fmt: skip


def _restored(place: Place, payload: dict[str, Any]) -> State:
    """Return the state that a snapshot holds."""
    fields = dict(payload)
    for name in ("taken", "others"):
        fields[name] = {file: Known(**known) for file, known in payload[name].items()}
    return State(place, **(fields | {"columns": tuple(payload["columns"])}))


def _day_of(folder: str) -> str:
    return folder.partition("/")[2][: len("2000-01-01")]


def _files(spark: SparkSession) -> int:
    """Return into how many files a merged folder is written."""
    return int(spark.sparkContext.defaultParallelism)
