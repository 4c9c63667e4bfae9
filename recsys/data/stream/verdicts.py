"""Say of each file what becomes of it: taken, a duplicate, refused, or waiting."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from recsys.data.globs import kind_of
from recsys.data.mapping import Mapping
from recsys.data.source import UnreadableFileError, check_file_name, check_names, header_of
from recsys.data.stream.landing import READS_AT_ONCE, Content, Found, Landing, content_of
from recsys.data.stream.state import Form, Known, State, Verdict
from recsys.errors import DataError

YOUNG = "it changed a moment ago"
CHANGED = (
    "its content changed after it was taken, and the former rows are in the tables: give the new "
    "rows in a file of another name, or, where they replace the former, remove the state folder "
    "so that all files are read anew"
)


@dataclass(frozen=True)
class Patience:
    """How long files that are still being written are waited for.

    Attributes:
        quiet_seconds: that a file must not have changed for before it is read.
        patience_seconds: that a file without a proper end is waited for before it is judged as
            it is.
    """

    quiet_seconds: float
    patience_seconds: float


@dataclass(frozen=True)
class Intake:
    """What files are judged by.

    Attributes:
        state: what is known.
        landing: where the files lie.
        mapping: what their columns mean.
        patience: with files that are still being written.
        published: number of the commit whose rows readers see; 0 for none.
    """

    state: State
    landing: Landing
    mapping: Mapping
    patience: Patience
    published: int


def judge_files(intake: Intake, files: Sequence[Found]) -> tuple[dict[str, Known], Form]:
    """Say of each file what becomes of it, and what form the taken ones have.

    Args:
        intake: what they are judged by.
        files: in the order in which they count: the first of several alike is taken.
    """

    def read(file: Found) -> Content | str:
        former = intake.state.taken.get(file.name)
        if age_of(file) < intake.patience.quiet_seconds:
            return YOUNG
        try:
            return content_of(file, former.bytes if former else 0)
        except (DataError, FileNotFoundError):
            return YOUNG
        except OSError as error:
            return f"it cannot be read ({error.strerror})"

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        contents = list(pool.map(read, files))
    digests = {k.sha256: name for name, k in intake.state.taken.items() if k.rows}
    form = intake.state.form
    verdicts: dict[str, Known] = {}
    for file, content in zip(files, contents, strict=True):
        if isinstance(content, str):
            verdicts[file.name] = known_of("waiting", file, reason=content)
            continue
        known = _verdict(intake, file, content, digests, form)
        verdicts[file.name] = known
        if known.verdict == "taken" and is_new(intake.state, file.name, known):
            digests.setdefault(known.sha256, file.name)
            form = form if form[0] else _form_of(file, intake.mapping)
    return verdicts, form


def is_new(state: State, name: str, known: Known) -> bool:
    """Tell whether a taken file's rows are yet to be read."""
    former = state.taken.get(name)
    return former is None or former.sha256 != known.sha256


def known_of(verdict: Verdict, file: Found, sha256: str = "", reason: str = "") -> Known:
    """Return what is known of a file that has no rows yet."""
    return Known(verdict, file.bytes, file.version, sha256, reason)


def reason_of(error: DataError) -> str:
    """Say an error's sentence as the reason of a refusal."""
    return str(error).rstrip(".")


def age_of(file: Found) -> float:
    """Return the seconds since a file's last change, as this machine's clock has it."""
    return abs((datetime.now(UTC) - file.changed).total_seconds())


def _verdict(
    intake: Intake, file: Found, content: Content, digests: dict[str, str], form: Form
) -> Known:
    """Say what becomes of a file whose content is known."""

    def result(verdict: Verdict, reason: str = "") -> Known:
        return known_of(verdict, file, content.sha256, reason)

    former = intake.state.taken.get(file.name)
    if former and former.sha256 == content.sha256:
        return replace(former, version=file.version)
    unfinished = _unfinished(file, content, intake.mapping)
    if unfinished and age_of(file) < intake.patience.patience_seconds:
        return result("waiting", unfinished)
    # A file that only grew was taken half-written; one that no reader has seen may be mended.
    if former and content.start != former.sha256 and former.commit <= intake.published:
        return result("refused", CHANGED)
    twin = digests.get(content.sha256)
    if twin is not None and twin != file.name:
        return result("duplicate", f"it has the content of {twin}")
    try:
        _check_form(file, form, intake.mapping)
    except DataError as error:
        return result("refused", reason_of(error))
    if not content.packed:
        return result("refused", reason_of(UnreadableFileError(file.name)))
    return result("taken")


def _unfinished(file: Found, content: Content, mapping: Mapping) -> str:
    """Say why a file looks as if it were still being written; empty where it does not."""
    if file.bytes == 0:
        return "it is empty"
    if not content.packed:
        return "its compressed content has no end"
    if kind_of(file.place) == "parquet":
        return "" if _has_footer(file, mapping) else "it has no Parquet footer"
    if not content.line_end and not file.name.lower().endswith(".gz"):
        return "its last line has no end"
    return ""


def _has_footer(file: Found, mapping: Mapping) -> bool:
    try:
        header_of(file.place, "parquet", mapping)
    except DataError:
        return False
    return True


def _check_form(file: Found, form: Form, mapping: Mapping) -> None:
    """Raise DataError where a file has not the form of the others, or none that can be used."""
    check_file_name(str(file.place))
    kind, columns = _form_of(file, mapping)
    if not columns:
        raise DataError("it is empty: give a file with a header line and rows")
    if form[0] and kind != form[0]:
        raise DataError(f"it is {kind} but the files taken before are {form[0]}: export it as such")
    if form[0] and columns != form[1]:
        raise DataError(_drift(columns, form[1]))
    check_names(file.name, columns)
    mapping.bind(columns, file.name)


def _drift(columns: tuple[str, ...], expected: tuple[str, ...]) -> str:
    """Say how a file's columns differ from those of the files taken before."""
    missing = [name for name in expected if name not in columns]
    added = [name for name in columns if name not in expected]
    parts = [f"the columns {', '.join(missing)} are missing"] if missing else []
    parts += [f"the columns {', '.join(added)} are new"] if added else []
    told = " and ".join(parts) or f"its columns stand in another order ({', '.join(columns)})"
    return (
        f"{told}: export it with the columns {', '.join(expected)}, or begin another stream for "
        "files of this form"
    )


def _form_of(file: Found, mapping: Mapping) -> Form:
    kind = str(kind_of(file.place))
    return kind, header_of(file.place, kind, mapping)
