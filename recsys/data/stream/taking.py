"""Take files once: write the rows of the sound ones, and commit what became of each."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

from pyspark.sql import SparkSession

from recsys.data.interactions import kept, normalised
from recsys.data.source import FILE, Files, UnreadableFileError, bare_path, reading
from recsys.data.stream.folders import new_folder
from recsys.data.stream.landing import Found, Landing, look
from recsys.data.stream.state import Form, Known, State, record
from recsys.data.stream.verdicts import (
    YOUNG,
    Intake,
    is_new,
    judge_files,
    known_of,
    reason_of,
)
from recsys.errors import DataError
from recsys.progress import say
from recsys.storage import remove_folder, spark_path


def take(spark: SparkSession, intake: Intake, files: Iterable[Found]) -> State:
    """Take those of some files that are new, and commit what became of each.

    Args:
        spark: the session.
        intake: what the files are judged by.
        files: to look at; those that were taken already are passed over.

    Returns:
        The state after the commit.

    Raises:
        CommitConflict: another stream uses the same state.
    """
    state, files = intake.state, sorted(files, key=lambda file: file.name)
    failed: dict[str, Known] = {}
    while True:
        verdicts, form = judge_files(intake, [f for f in files if f.name not in failed])
        taken = {name: known for name, known in verdicts.items() if known.verdict == "taken"}
        chosen = [f for f in files if f.name in taken and is_new(state, f.name, taken[f.name])]
        if not chosen:
            return _committed(state, verdicts | failed, state.form, rows=False)
        folder = new_folder(datetime.now(UTC).date())
        try:
            written = _written(spark, intake, folder, chosen, form, taken)
            problems = _moved(intake.landing, chosen)
            if not problems:
                verdicts |= written | _without_rows(verdicts, written)
                return _committed(state, verdicts | failed, form, rows=True)
        except Exception as error:
            problems = _moved(intake.landing, chosen) or _refused(error, chosen)
            if not problems:
                raise
        remove_folder(state.place / folder)
        failed |= problems


def forget_gone(state: State, names: Collection[str]) -> State:
    """Drop files that were not taken and do not lie in the landing folder any more.

    Args:
        state: what is known.
        names: of the files that lie there.
    """
    gone = [name for name in state.others if name not in names]
    if not gone:
        return state
    return record(state, {}, {}, gone, state.form, rows=False)


def to_look_at(state: State, files: Iterable[Found]) -> list[Found]:
    """Return those files that wait, or are not what they were when they were last looked at."""
    result = []
    for file in files:
        known = state.others.get(file.name) or state.taken.get(file.name)
        if known is None or known.verdict == "waiting" or known.version != file.version:
            result.append(file)
    return result


def without_twin(state: State) -> set[str]:
    """Return the names of duplicates whose content no taken file has any more."""
    held = {known.sha256 for known in state.taken.values()}
    others = state.with_verdict("duplicate").items()
    return {name for name, known in others if known.sha256 not in held}


def _moved(landing: Landing, chosen: list[Found]) -> dict[str, Known]:
    """Return those of some files that are not what they were before they were read."""
    now = {file.name: file.version for file in look(landing, [f.name for f in chosen])}
    moved = [f for f in chosen if now.get(f.name) != f.version]
    return {f.name: known_of("waiting", f, reason=YOUNG) for f in moved}


def _refused(error: Exception, chosen: list[Found]) -> dict[str, Known]:
    """Return those of some files that Spark failed to read."""
    if not isinstance(error, UnreadableFileError):
        return {}
    named = [f for f in chosen if error.path in (spark_path(f.place), f.place.name)]
    return {f.name: known_of("refused", f, reason=reason_of(error)) for f in named}


def _without_rows(verdicts: dict[str, Known], written: dict[str, Known]) -> dict[str, Known]:
    """Take files without rows though another is alike: days without sales are no duplicates."""
    empty = {known.sha256: known for known in written.values() if known.rows == 0}
    return {
        name: replace(known, verdict="taken", reason="", commit=empty[known.sha256].commit)
        for name, known in verdicts.items()
        if known.verdict == "duplicate" and known.sha256 in empty
    }


def _written(
    spark: SparkSession,
    intake: Intake,
    folder: str,
    chosen: list[Found],
    form: Form,
    taken: dict[str, Known],
) -> dict[str, Known]:
    """Write the rows of files into a folder; returns what is known of the files then."""
    state = intake.state
    files = Files(str(state.place), tuple(spark_path(f.place) for f in chosen), *form)
    with reading(spark, files):
        rows = kept(normalised(spark, files, intake.mapping), state.place / folder)
    counted = {row[FILE]: int(row["count"]) for row in rows.groupBy(FILE).count().collect()}
    uris = {bare_path(unquote(uri)): uri for uri in counted}
    result = {}
    for file in chosen:
        uri = uris.get(bare_path(spark_path(file.place)), "")
        count = counted.get(uri, 0)
        result[file.name] = replace(
            taken[file.name],
            rows=count,
            folder=folder if count else "",
            uri=uri,
            commit=state.number + 1,
        )
    if sum(known.rows for known in result.values()) != sum(counted.values()):
        raise DataError(
            f"the rows in {folder} do not add up by file: this is a fault of the stream; please "
            "report it with the names of the files."
        )
    return result


def _committed(state: State, verdicts: dict[str, Known], form: Form, rows: bool) -> State:
    """Commit what is news of some files."""
    taken = {n: k for n, k in verdicts.items() if k.verdict == "taken"}
    taken = {n: k for n, k in taken.items() if state.taken.get(n) != k or n in state.others}
    others = {n: k for n, k in verdicts.items() if k.verdict != "taken"}
    others = {n: k for n, k in others.items() if state.others.get(n) != k}
    for name, known in others.items():
        if known.verdict != "duplicate":
            say(f"  {name} {'waits' if known.verdict == 'waiting' else 'refused'}: {known.reason}")
    if not taken and not others:
        return state
    return record(state, taken, others, [], form, rows)
