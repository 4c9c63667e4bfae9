"""Make the tables of all rows that were taken: the same tables as a batch ingest of the files."""

from collections import Counter
from datetime import datetime

from pyspark.sql import SparkSession

from recsys.config import Config
from recsys.data.ingest_report import IngestReport
from recsys.data.interactions import REPORT, WORK, kept, write_tables
from recsys.data.mapping import Mapping
from recsys.data.replace import content_of, current, replaced
from recsys.data.rules import judge_rows
from recsys.data.stream.folders import rows_of
from recsys.data.stream.state import NOT_TAKEN, State
from recsys.errors import DataError
from recsys.progress import stage
from recsys.storage import Place, read_file, write_file

STREAM = "stream.json"


class StreamReport(Config):
    """What became of the files of a landing folder; stands in the output as stream.json."""

    state: str  # id of the state that the tables were made from
    folder: str = ""  # where that state lies
    rows_commit: int  # number of its commit whose rows they hold
    mapping_digest: str
    files: int  # taken
    duplicates: dict[str, str]  # file → why; so are the others
    refused: dict[str, str]
    waiting: dict[str, str]


def published(output: Place) -> StreamReport | None:
    """Return what the tables in an output were made from; None where no stream made them.

    Raises:
        DataError: its report is damaged.
    """
    file = content_of(output) / STREAM
    data = read_file(file) if current(output) else None
    try:
        return None if data is None else StreamReport.model_validate_json(data)
    except ValueError:
        raise DataError(
            f"{file} is not what a stream wrote: remove it; the tables are then made anew."
        ) from None


def published_commit(output: Place, state: State) -> int:
    """Return the number of the commit whose rows the tables hold; 0 where they hold none."""
    report = published(output)
    return report.rows_commit if report and report.state == state.begun else 0


def publish(
    spark: SparkSession, state: State, source: str, output: Place, mapping: Mapping, now: datetime
) -> IngestReport | None:
    """Replace the tables where rows were taken since, and say what became of the files.

    Args:
        spark: the session.
        state: what was taken.
        source: the landing folder as the user gave it.
        output: folder of the tables.
        mapping: what rows are judged by.
        now: where the future begins.

    Returns:
        What became of the rows; None where no file was taken yet.

    Raises:
        DataError: the rows cannot be used as they are, or a limit is broken; the former tables
            stand, and the message names the file that broke it.
    """
    wanted, former = _report(state, mapping), published(output)
    if not state.taken:
        return None
    if former and _made_from(former) == _made_from(wanted):
        if former != wanted:
            write_file(content_of(output) / STREAM, _text(wanted))
        return _report_of(output)
    if former and former.state != state.begun:
        _check_replaces(state, output, former)
    names = [_last(name) for name in sorted(state.taken)]
    newest = _newest(state, former)
    with replaced(output, REPORT) as folder:
        with stage(f"judge the rows of {len(names)} file(s)"):
            if not state.folders:
                raise DataError(f"{source} has headers but no rows: give files with transactions.")
            rows = judge_rows(rows_of(spark, state, state.folders), mapping, now)
            once = kept(rows, folder / WORK / "rows")
        result = write_tables(once, folder, source, names, mapping, now, newest)
        if result.rows_in != sum(known.rows for known in state.taken.values()):
            raise DataError(
                f"the rows in {state.place} are not those that were taken: remove the state "
                "folder; all files of the landing folder are then read anew."
            )
        write_file(folder / STREAM, _text(wanted))
    return result


def _check_replaces(state: State, output: Place, former: StreamReport) -> None:
    """Raise DataError where tables that another state made hold files that this one does not."""
    held = Counter(_report_of(output).files)
    held.subtract(_last(name) for name in (*state.taken, *state.with_verdict("duplicate")))
    missing = sorted(name for name, count in held.items() if count > 0)
    if missing:
        raise DataError(
            f"the tables in {output} are of another stream, with the state "
            f"{former.folder or former.state}: they hold {len(missing)} file(s) that {state.place} "
            f"has not taken, such as {missing[0]}. Give that state, or another output; or remove "
            f"{content_of(output) / STREAM} to begin anew without those files."
        )


def _report_of(output: Place) -> IngestReport:
    """Return what became of the rows of the tables in an output."""
    return IngestReport.model_validate_json(read_file(content_of(output) / REPORT) or b"")


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _newest(state: State, former: StreamReport | None) -> list[str] | None:
    """Return the URIs of the files that the tables do not hold yet; None for all."""
    if former is None or former.state != state.begun:
        return None
    taken = state.taken.values()
    return [known.uri for known in taken if known.commit > former.rows_commit] or None


def _made_from(report: StreamReport) -> tuple[str, int, str]:
    return report.state, report.rows_commit, report.mapping_digest


def _report(state: State, mapping: Mapping) -> StreamReport:
    reasons = {
        verdict: {name: known.reason for name, known in state.with_verdict(verdict).items()}
        for verdict in NOT_TAKEN
    }
    return StreamReport(
        state=state.begun,
        folder=str(state.place),
        rows_commit=state.rows,
        mapping_digest=mapping.digest,
        files=len(state.taken),
        duplicates=reasons["duplicate"],
        refused=reasons["refused"],
        waiting=reasons["waiting"],
    )


def _text(report: StreamReport) -> bytes:
    return (report.model_dump_json(indent=2) + "\n").encode()
