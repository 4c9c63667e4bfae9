"""Which files of data a path stands for: a file, a folder or a glob, on a disk and in a cloud."""

from fnmatch import fnmatch
from glob import glob
from pathlib import Path

from recsys.data.replace import content_of
from recsys.errors import DataError, UsageError
from recsys.storage import (
    Place,
    RemotePath,
    exists,
    files_below,
    folders_in,
    is_remote,
    local_path,
    place_of,
)

SUFFIXES = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet"}


def files_of(source: str) -> list[Place]:
    """List the files of data that a source stands for, by name.

    Args:
        source: a file, a folder of files, or a glob, on a disk or in a cloud.

    Raises:
        UsageError: there is no such file or folder.
        DataError: none of data lies there.
    """
    return list(_in_cloud(source) if is_remote(source) else _on_disk(source))


def _in_cloud(source: str) -> list[RemotePath]:
    """List the objects that a URL of a file, a folder or a glob stands for."""
    place, pattern = place_of(source), "*"
    if is_pattern(place.name):
        place, pattern = place.parent, place.name
    elif kind_of(place) and not files_below(place):
        if not exists(place):
            raise UsageError(f"{source} does not exist: give a file, a folder, or a glob.")
        return [place] if isinstance(place, RemotePath) else []
    folders = _folders_in_cloud(place)
    below = [f for folder in folders for f in files_below(folder) if _is_shown(f, folder)]
    found = [f for f in below if fnmatch(f.name, pattern)]
    right_there = [f for f in found if f.parent in folders]
    if not found:
        raise DataError(f"{source} has no .csv, .csv.gz or .parquet files: give their folder.")
    return [f for f in sorted(right_there or found) if isinstance(f, RemotePath)]


def _folders_in_cloud(place: Place) -> list[Place]:
    """Return where the content of a folder lies, or of the folders that a glob stands for."""
    if not is_pattern(str(place)):
        return [content_of(place)]
    above = _folders_in_cloud(place.parent)
    if not is_pattern(place.name):
        return [content_of(folder / place.name) for folder in above]
    named = [folder / n for folder in above for n in folders_in(folder) if not is_hidden(n)]
    return [content_of(folder) for folder in named if fnmatch(folder.name, place.name)]


def _on_disk(source: str) -> list[Path]:
    """List the files that a path of a file, a folder or a glob stands for."""
    place = local_path(source)
    if place.is_dir():
        found = [path for path in place.iterdir() if _is_data(path, place)]
        # A table that Spark or another job wrote in folders of its own.
        found = found or [path for path in place.rglob("*") if _is_data(path, place)]
        if not found:
            raise DataError(f"{source} has no .csv, .csv.gz or .parquet files: give their folder.")
        return sorted(found)
    if place.exists():
        if kind_of(place) is None:
            raise UsageError(
                f"{source} must end in .csv, .csv.gz or .parquet: rename or export it."
            )
        return [place]
    # Path.glob takes no absolute pattern.
    found = [path for path in map(Path, glob(str(place), recursive=True)) if _matches(path, place)]  # noqa: PTH207
    if not found:
        raise UsageError(f"{source} does not exist: give a file, a folder, or a glob in quotes.")
    return sorted(found)


def kind_of(path: Place) -> str | None:
    """Return `csv` or `parquet`, as a file's name says; None where it says neither."""
    return next((kind for end, kind in SUFFIXES.items() if path.name.lower().endswith(end)), None)


def _is_data(path: Path, folder: Path) -> bool:
    return path.is_file() and _is_shown(path, folder)


def _matches(path: Path, pattern: Path) -> bool:
    # A hidden folder that the pattern names is meant.
    folders = [part for part in path.parts[:-1] if part not in pattern.parts]
    return path.is_file() and is_shown_data("/".join((*folders, path.name)))


def _is_shown(file: Place, folder: Place) -> bool:
    inside = str(file) if str(folder) == "." else str(file).removeprefix(str(folder))
    return is_shown_data(inside.strip("/"))


def is_shown_data(name: str) -> bool:
    """Tell whether a file is one of data, by its path inside the folder that is looked through.

    It is of a known kind, and neither hidden itself nor in a hidden folder.
    """
    *folders, last = name.split("/")
    kinds = any(last.lower().endswith(end) for end in SUFFIXES)
    return kinds and not any(map(is_hidden, (*folders, last)))


def is_hidden(name: str) -> bool:
    """Tell whether a name is one of those that mean: not yet, or not for readers."""
    return name.startswith((".", "_"))


def is_pattern(text: str) -> bool:
    """Tell a glob from a name."""
    return any(sign in text for sign in "*?[")
