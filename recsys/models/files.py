"""A saved model: plain data, a manifest with each file's SHA-256, nothing that can run.

model.json                algorithm, hyperparameters, dataset digest, cut, versions, shapes
items.parquet             item (its row in the arrays), item_id, trend
customers.parquet         customer (its row in the arrays), customer_id
<array>.parquet           one a fitted array, such as item_factors; a row a row
manifest.json             files, bytes, SHA-256; its own digest is the model's digest
"""

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from recsys import __version__
from recsys import columns as c
from recsys.config import Config
from recsys.data.dataset import History
from recsys.errors import ModelError, UsageError
from recsys.models import ALGORITHMS, arrays, contents, manifest
from recsys.models.base import Hyperparameters
from recsys.models.contents import Shapes
from recsys.models.manifest import Manifest
from recsys.storage import Place, make_folder, place_of, read_parquet

FORMAT = manifest.FORMAT
HEADER, MANIFEST = manifest.HEADER, manifest.MANIFEST
ITEMS, CUSTOMERS = contents.ITEMS, contents.CUSTOMERS
VERSIONS_OF = ("numba", "numpy", "pyarrow", "pyspark", "scipy")
# Rows are counted by 32-bit numbers in all that a model is made of.
LARGEST = 2**31
Count = Annotated[int, Field(ge=0, lt=LARGEST)]


@dataclass(frozen=True)
class Header:
    """What a saved model says of itself.

    Attributes:
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        dataset_digest: of the dataset that it was fitted on.
        before: day of the cut; nothing from it on was seen.
        customers: rows that the fit knew.
        items: items that the fit knew.
    """

    algorithm: str
    parameters: Hyperparameters
    dataset_digest: str
    before: int
    customers: int
    items: int


def save(fitted: Place, header: Header, history: History, trend: NDArray[Any], folder: Path) -> str:
    """Write a model folder.

    Args:
        fitted: folder of the fitted arrays.
        header: what the model is.
        history: what it was fitted on, for the ids.
        trend: float32 [items], scaled, at the cut.
        folder: where to write; made, and expected to be empty.

    Returns:
        The model's digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {}
    for name, array in arrays.read_all(fitted).items():
        _write_array(array, folder / f"{name}.parquet")
        shapes[name] = list(array.shape)
    items = _ids(history, "items", [c.ITEM, c.ITEM_ID], history.items)
    _write_table(items.append_column(contents.TREND, pa.array(trend)), folder / ITEMS)
    customers = _ids(history, "customers", [c.CUSTOMER, c.CUSTOMER_ID], history.customers)
    _write_table(customers, folder / CUSTOMERS)
    description = {
        "format": FORMAT,
        "algorithm": header.algorithm,
        "parameters": header.parameters.model_dump(),
        "dataset_digest": header.dataset_digest,
        "before": header.before,
        "customers": header.customers,
        "items": header.items,
        "arrays": shapes,
        "versions": {"recsys": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONS_OF},
    }
    (folder / HEADER).write_text(json.dumps(description, indent=2, sort_keys=True), "utf-8")
    listed = manifest.write({f.name: manifest.facts_of(f) for f in sorted(folder.iterdir())})
    (folder / MANIFEST).write_bytes(listed)
    return manifest.parse(listed, folder / MANIFEST).digest


def digest_of(folder: Path) -> str:
    """Return a saved model's digest; raises ModelError where the folder is no saved model."""
    return _manifest(folder).digest


def check(folder: Path) -> str:
    """Return a saved model's digest after a check of every file; see `checked`."""
    return checked(folder).digest


def checked(folder: Path) -> Manifest:
    """Check every file of a saved model against its manifest, before any is opened.

    Returns:
        The model's digest and its files.

    Raises:
        ModelError: the folder is no saved model, or a file is missing, altered, not listed, or no
            plain file.
    """
    listed = _manifest(folder)
    with os.scandir(folder) as entries:
        present = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    for name in sorted((present.keys() | listed.files.keys()) - {MANIFEST}):
        file = folder / manifest.shown(name)
        if name not in listed.files:
            raise ModelError(f"{file} is not in the model's manifest: the model is not used.")
        if name not in present:
            raise ModelError(f"{file} is in the model's manifest, but is not there.")
        if other := manifest.other_than_file(present[name].st_mode):
            raise ModelError(
                f"{file} is in the model's manifest, but is not a file: it is {other}."
            )
        if present[name].st_size != listed.files[name].bytes:
            raise _changed(file)
    for name, facts in listed.files.items():
        if manifest.facts_of(folder / name) != facts:
            raise _changed(folder / name)
    return listed


def load(folder: Path, fitted: Place) -> Header:
    """Check a saved model and unpack its arrays for tasks to map into memory.

    Args:
        folder: the saved model.
        fitted: folder to unpack into; made here.

    Raises:
        ModelError: see `checked` and `examine`.
    """
    header, claimed = examine(folder, checked(folder))
    make_folder(fitted)
    contents.unpack(folder, claimed, fitted)
    return header


def examine(folder: Path, listed: Manifest) -> tuple[Header, Shapes]:
    """Read what a saved model claims, and check that its files are so, without unpacking them.

    Args:
        folder: the saved model.
        listed: its manifest, which its files were found to fit.

    Raises:
        ModelError: the model was saved by an incompatible version, or a file is not as claimed.
    """
    header, claimed = read_header(folder)
    contents.check(folder, claimed, listed.files)
    return header, claimed


class _Told(Config):
    """What a saved model's header holds."""

    model_config = ConfigDict(strict=True)

    format: int
    algorithm: str
    parameters: dict[str, Any]
    dataset_digest: str
    before: int = Field(gt=-LARGEST, lt=LARGEST)
    customers: Count
    items: Count
    arrays: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]]
    versions: dict[str, str]


def read_header(folder: Path) -> tuple[Header, Shapes]:
    """Read what a saved model says of itself and of its files; raises ModelError."""
    where = folder / HEADER
    try:
        values = manifest.parse_json(manifest.read_plain(where), where)
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a saved model (no {HEADER}).") from None
    version = (values.get("algorithm"), values.get("format"))
    if str(version[0]) not in ALGORITHMS or version[1] != FORMAT:
        raise ModelError(
            f"{folder} was saved by another version ({manifest.shown(str(version[0]))}, "
            f"format {manifest.shown(str(version[1]))}): train the model again."
        )
    try:
        told = _Told.checked(values, str(where))
        parameters_class = ALGORITHMS[told.algorithm].parameters_class
        parameters = parameters_class.checked(told.parameters, str(where))
    except UsageError as error:
        raise ModelError(manifest.shown(str(error), 300)) from None
    except RecursionError:
        raise manifest.damaged(where, "it is nested too deeply") from None
    learned = ALGORITHMS[told.algorithm].learned
    if strangers := sorted(told.arrays.keys() ^ learned.keys()):
        raise ModelError(
            f"{where} should name the arrays {sorted(learned)} of {told.algorithm}, and differs in "
            f"{manifest.shown(strangers[0])!r}: the model is not used."
        )
    header = Header(
        told.algorithm, parameters, told.dataset_digest, told.before, told.customers, told.items
    )
    shapes = {name: (rows, width) for name, (rows, width) in told.arrays.items()}
    return header, Shapes(told.algorithm, told.customers, told.items, shapes)


def _manifest(folder: Path) -> Manifest:
    try:
        return manifest.parse(manifest.read_plain(folder / MANIFEST), folder / MANIFEST)
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a saved model (no {MANIFEST}).") from None


def _changed(file: Path) -> ModelError:
    return ModelError(f"{file} was changed after the model was saved: it is not used.")


def _ids(history: History, table: str, columns: list[str], count: int) -> pa.Table:
    """Read the first ids with their index."""
    return read_parquet(place_of(history.tables) / table, columns=columns).slice(0, count)


def _write_table(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, compression="zstd", row_group_size=contents.ROWS_A_GROUP)


def _write_array(array: NDArray[Any], file: Path) -> None:
    """Write a 2-D array as lists of fixed length, a group of rows at a time."""
    inner = pa.from_numpy_dtype(array.dtype)
    schema = pa.schema([("values", pa.list_(inner, array.shape[1]))])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, max(1, len(array)), contents.ROWS_A_GROUP):
            flat = pa.array(
                np.ascontiguousarray(array[start : start + contents.ROWS_A_GROUP]).ravel()
            )
            lists = pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
            writer.write_table(pa.table({"values": lists}, schema=schema))
