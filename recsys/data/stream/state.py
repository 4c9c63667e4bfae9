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
from pathlib import Path
from typing import Any, Literal

from recsys.data.mapping import Mapping
from recsys.errors import UsageError
from recsys.storage import (
    Commit,
    CommitLog,
    Place,
    beside,
    keys_of,
    make_folder,
    store_of,
)
from recsys.storage.commits import COMMITS

CHECKPOINT = "checkpoint"
# Of a mapping, what rows are judged by when the tables are made; all else decides how they read.
JUDGING = {
    "version", "non_product_ids", "non_product_pattern", "max_quantity", "max_unit_price",
    "earliest", "latest", "stale_after_days", "heavy_customer_rows", "warn_share", "fail_share",
    "fail_share_of",
}  # fmt: skip
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
        UsageError: the folder holds something else or cannot be written, or the state was begun
            with a mapping that reads rows otherwise.
        BrokenLogError: a commit is missing or was altered.
    """
    try:
        make_folder(place)
    except OSError as error:
        raise UsageError(
            f"{place} cannot be the stream's state ({error.strerror}): give another folder."
        ) from None
    log = CommitLog(store_of(place))
    head = log.head()
    if "taken" not in head.payload if head else _holds_more(place):
        raise UsageError(
            f"{place} holds something else (it has no commit of a stream): give another folder for "
            "the stream's state, or empty it yourself."
        )
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


def _holds_more(place: Place) -> bool:
    """Tell whether a folder without a commit holds more than what a killed first one left."""
    if isinstance(place, Path):
        return any(file.name != COMMITS for file in place.iterdir())
    return any(key.split("/")[0] not in ("", COMMITS) for key in keys_of(store_of(place), ""))


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
