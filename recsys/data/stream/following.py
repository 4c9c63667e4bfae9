"""Follow a landing folder: Structured Streaming says which files are new, in micro-batches.

Spark lists a path once. What it will not list again is looked at besides: files that wait until
they are complete, and files that were mended or have grown.
"""

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from recsys.data.faults import explained
from recsys.data.ingest_report import IngestReport
from recsys.data.mapping import Mapping
from recsys.data.stream.folders import ROWS, clean, compact
from recsys.data.stream.landing import Found, Landing, check_apart, landing_of, listing, look
from recsys.data.stream.options import StreamOptions
from recsys.data.stream.publishing import publish, published_commit
from recsys.data.stream.query import new_files
from recsys.data.stream.state import (
    CHECKPOINT,
    NOT_TAKEN,
    State,
    open_state,
    state_place,
)
from recsys.data.stream.taking import forget_gone, take, to_look_at, without_twin
from recsys.data.stream.verdicts import YOUNG, Intake
from recsys.errors import DataError
from recsys.progress import say, stage
from recsys.storage import Place, place_of

TICK = 1  # second


class _ToldToEndError(DataError):
    """A micro-batch was not begun; the next run takes its files."""


@dataclass
class Stream:
    """A stream at work.

    Attributes:
        spark: the session.
        source: the landing folder as the user gave it.
        landing: the folder.
        output: folder of the tables.
        mapping: what the files' columns and values mean.
        options: how the folder is followed.
        state: what is known.
        told: called after each publication, from whatever thread; None for nobody.
        tables: what became of the rows at the last publication.
        failure: why the tables do not hold the rows that were taken last.
        shown: number of the commit that was published last.
        left: how many files lie where none is taken.
    """

    spark: SparkSession
    source: str
    landing: Landing
    output: Place
    mapping: Mapping
    options: StreamOptions
    state: State
    told: "Callable[[Stream], None] | None" = None
    tables: IngestReport | None = None
    failure: DataError | None = None
    shown: int = 0
    left: int = 0

    def take(self, names: list[str]) -> None:
        """Take the files of some names."""
        self._take(look(self.landing, [name for name in names if self.landing.takes(name)]))

    def look_again(self, unknown: bool) -> None:
        """Take files that waited or have changed, and, where asked for, those nobody spoke of."""
        lying = listing(replace(self.landing, deep=True))
        found = {name: file for name, file in lying.items() if self.landing.takes(name)}
        self._say_left(sorted(lying.keys() - found.keys()))
        self.state = forget_gone(self.state, found.keys())
        known = {*self.state.taken, *self.state.others}
        files = to_look_at(self.state, found.values())
        self._take([file for file in files if unknown or file.name in known])
        # Where a taken file was mended just now, its duplicates hold what no other file does.
        alone = without_twin(self.state)
        self._take([file for file in found.values() if file.name in alone])

    def publish(self) -> None:
        """Let the tables follow what was taken; raises DataError where they cannot."""
        if self.shown == self.state.number:
            return
        self.failure = None
        self.shown = self.state.number
        now = datetime.now(UTC)
        self.tables = publish(self.spark, self.state, self.source, self.output, self.mapping, now)
        if self.told is not None:
            self.told(self)

    def publish_or_say(self) -> None:
        """Publish; where it cannot be, say why and go on with the former tables."""
        try:
            self.publish()
        except DataError as error:
            self.failure = error
            say(f"  not published, the former tables stand: {error}")

    def tidy(self) -> None:
        """Merge the row folders of finished days, and remove what nobody names any more."""
        now = datetime.now(UTC)
        self.state = compact(self.spark, self.state, now.date())
        clean(self.state, now)

    def _say_left(self, names: list[str]) -> None:
        if len(names) > self.left:
            say(
                f"  {len(names):,} file(s) in folders of {self.source} are not taken, such as "
                f"{names[0]}: put them right into it, or follow their folder as another stream"
            )
        self.left = len(names)

    def _take(self, files: list[Found]) -> None:
        if not files:
            return
        with stage(f"look at {len(files)} file(s)"):
            published = published_commit(self.output, self.state)
            patience = self.options.patience
            intake = Intake(self.state, self.landing, self.mapping, patience, published)
            self.state = take(self.spark, intake, files)
        say(f"  {_told(self.state)}")


def follow(
    spark: SparkSession,
    source: str,
    output: str | Place,
    mapping: Mapping,
    options: StreamOptions,
    told: Callable[[Stream], None] | None = None,
) -> Stream:
    """Take the files of a landing folder, each once, and let the tables follow.

    Without a trigger, what is there now is taken and published once. With one, this goes on until
    the process is told to end (Ctrl-C, SIGTERM); the micro-batch at work is finished.

    Args:
        spark: a session in UTC, as `spark_session` makes it.
        source: folder that files arrive in, or a glob of files in it.
        output: folder of the tables; a former ingest there is replaced as a whole.
        mapping: what the files' columns and values mean.
        options: how the folder is followed.
        told: called after each publication.

    Raises:
        UsageError: there is no such folder, or the state was begun with another mapping.
        DataError: the rows cannot be used as they are; the former tables stand.
        CommitConflict: another stream uses the same state.
    """
    place, seconds = place_of(output), options.seconds
    landing = landing_of(source)
    kept = place_of(options.state) if options.state else state_place(place)
    check_apart(landing, place, kept)
    with explained(_cures(kept)):
        state = open_state(kept, mapping)
        if state.taken:
            # Where files were taken from once, they are taken from for ever.
            landing = replace(landing, deep=any("/" in name for name in state.taken))
        stream = Stream(spark, source, landing, place, mapping, options, state, told)
        stream.tidy()
        if seconds is None:
            _take_what_is_there(stream)
        else:
            _go_on(stream, seconds)
    return stream


def _cures(state: Place) -> dict[str, str]:
    """Return what to do where a part of the state is lost: sign in an error's text → cure."""
    return {
        "JsonParseException|MALFORMED_LOG_FILE|Failed to read log file|ChecksumException": (
            f"Spark's notes in {state / CHECKPOINT} are damaged: remove that folder and run again; "
            "no file is taken twice."
        ),
        f"(PATH_NOT_FOUND|FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER)[^\n]*/{ROWS}/"
        "|UNABLE_TO_INFER_SCHEMA": (
            f"rows that were taken are missing or damaged in {state / ROWS}: restore them, or "
            f"remove {state}; all files of the landing folder are then read anew."
        ),
    }


def _take_what_is_there(stream: Stream) -> None:
    """Take what lies in the landing folder, and publish once."""
    if listing(stream.landing):
        with _listening(stream, stream.take) as query:
            query.awaitTermination()
    stream.look_again(unknown=True)
    if any(known.reason == YOUNG for known in stream.state.others.values()):
        # What was put there just now is not left to the next run.
        time.sleep(stream.options.patience.quiet_seconds)
        stream.look_again(unknown=True)
    stream.publish()


def _go_on(stream: Stream, seconds: int) -> None:
    """Take and publish again and again until the process is told to end."""
    lock, ended = threading.Lock(), threading.Event()

    def micro_batch(names: list[str]) -> None:
        with lock:
            if ended.is_set():
                raise _ToldToEndError("the stream was told to end before this micro-batch began.")
            stream.take(names)
            stream.publish_or_say()

    def look_again() -> None:
        with lock:
            stream.look_again(unknown=False)
            stream.publish_or_say()
            stream.tidy()

    say(f"▸ following {stream.source} every {seconds} s; Ctrl-C ends it")
    with (
        # Whoever waits for the query hears of it where a micro-batch was due just then.
        suppress(_ToldToEndError),
        _told_to_end(ended),
        _listening(stream, micro_batch, seconds) as query,
    ):
        due = 0.0
        while not ended.is_set() and not query.awaitTermination(TICK):
            if time.monotonic() >= due:
                look_again()
                due = time.monotonic() + seconds
        with lock:
            say("  told to end")
    if stream.failure is not None:
        raise stream.failure


@contextmanager
def _listening(
    stream: Stream, take: Callable[[list[str]], None], seconds: int | None = None
) -> Iterator[StreamingQuery]:
    """Run the query that hands on the names of new files, and stop it at the end."""
    key = f"{stream.state.begun} {stream.landing}"
    checkpoint = stream.state.place / CHECKPOINT / hashlib.sha256(key.encode()).hexdigest()[:16]
    most = stream.options.max_files
    with new_files(stream.spark, stream.landing, checkpoint, most, take, seconds) as query:
        yield query


@contextmanager
def _told_to_end(ended: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set an event; a second one ends the process as usual."""

    def note(number: int, frame: FrameType | None) -> None:
        ended.set()
        signal.signal(number, former[signal.Signals(number)])

    former = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _told(state: State) -> str:
    """Say in one line what is known of the files."""
    rows = sum(known.rows for known in state.taken.values())
    parts = [f"{len(state.taken):,} file(s) taken with {rows:,} rows"]
    for verdict in NOT_TAKEN:
        count = len(state.with_verdict(verdict))
        parts += [f"{count:,} {verdict}"] if count else []
    return ", ".join(parts)
