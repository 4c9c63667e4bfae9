"""A saved model: plain data, a manifest with each file's SHA-256, nothing that can run.

model.json                algorithm, hyperparameters, dataset digest, cut, versions, shapes
items.parquet             item (its row in the arrays), item_id, trend
customers.parquet         customer (its row in the arrays), customer_id
<array>.parquet           one a fitted array, such as item_factors; a row a row
manifest.json             files, bytes, SHA-256; its own digest is the model's digest
"""

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import __version__
from recsys import columns as c
from recsys.data.dataset import History
from recsys.errors import ModelError
from recsys.models import ALGORITHMS, arrays
from recsys.models.base import Hyperparameters
from recsys.storage import Place, make_folder, place_of, read_parquet, sha256_file

FORMAT = 1
HEADER, MANIFEST = "model.json", "manifest.json"
ITEMS, CUSTOMERS = "items.parquet", "customers.parquet"
ROWS_A_GROUP = 65_536
VERSIONS_OF = ("numba", "numpy", "pyarrow", "pyspark", "scipy")


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
    _write_table(items.append_column("trend", pa.array(trend)), folder / ITEMS)
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
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(folder.iterdir())
    }
    manifest = json.dumps({"format": FORMAT, "files": files}, indent=2, sort_keys=True).encode()
    (folder / MANIFEST).write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


def digest_of(folder: Path) -> str:
    """Return a saved model's digest; raises ModelError where the folder is no saved model."""
    return hashlib.sha256(_manifest_bytes(folder)).hexdigest()


def check(folder: Path) -> str:
    """Check every file of a saved model against its manifest, before any is opened.

    Returns:
        The model's digest.

    Raises:
        ModelError: the folder is no saved model, or a file is missing, altered or not listed.
    """
    manifest = _manifest_bytes(folder)
    try:
        listed = json.loads(manifest)["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{folder / MANIFEST} is damaged: train the model again.") from None
    present = {file.name for file in folder.iterdir()} - {MANIFEST}
    for name in sorted(present | set(expected)):
        file = folder / name
        if name not in expected:
            raise ModelError(f"{file} is not in the model's manifest: the model is not used.")
        if file.is_symlink() or not file.is_file():
            raise ModelError(f"{file} is in the model's manifest, but is not there as a file.")
        if (file.stat().st_size, sha256_file(file)) != expected[name]:
            raise ModelError(f"{file} was changed after the model was saved: it is not used.")
    return hashlib.sha256(manifest).hexdigest()


def load(folder: Path, fitted: Place) -> Header:
    """Check a saved model and unpack its arrays for tasks to map into memory.

    Args:
        folder: the saved model.
        fitted: folder to unpack into; made here.

    Raises:
        ModelError: see `check`, or the model was saved by an incompatible version.
    """
    check(folder)
    header, shapes = read_header(folder)
    checked = {file.stem for file in folder.glob("*.parquet")}
    if strangers := sorted(set(shapes) - checked):
        raise ModelError(f"{folder / HEADER} names arrays that are not there: {strangers[0]}.")
    make_folder(fitted)
    for name, shape in shapes.items():
        _unpack_array(folder / f"{name}.parquet", tuple(shape), fitted, name)
    return header


def read_header(folder: Path) -> tuple[Header, dict[str, list[int]]]:
    """Read what a saved model says of itself, and the shapes of its arrays."""
    try:
        values = json.loads((folder / HEADER).read_text("utf-8"))
        if values["format"] != FORMAT or values["algorithm"] not in ALGORITHMS:
            raise ModelError(
                f"{folder} was saved by another version "
                f"({values['algorithm']}, format {values['format']}): train the model again."
            )
        parameters_class = ALGORITHMS[values["algorithm"]].parameters_class
        return Header(
            values["algorithm"],
            parameters_class.checked(values["parameters"], str(folder / HEADER)),
            values["dataset_digest"],
            values["before"],
            values["customers"],
            values["items"],
        ), values["arrays"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{folder} is not a saved model (no readable {HEADER}).") from None


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError:
        raise ModelError(f"{folder} is not a saved model (no {MANIFEST}).") from None


def _ids(history: History, table: str, columns: list[str], count: int) -> pa.Table:
    """Read the first ids with their index."""
    return read_parquet(place_of(history.tables) / table, columns=columns).slice(0, count)


def _write_table(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, compression="zstd", row_group_size=ROWS_A_GROUP)


def _write_array(array: NDArray[Any], file: Path) -> None:
    """Write a 2-D array as lists of fixed length, a group of rows at a time."""
    inner = pa.from_numpy_dtype(array.dtype)
    schema = pa.schema([("values", pa.list_(inner, array.shape[1]))])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, max(1, len(array)), ROWS_A_GROUP):
            flat = pa.array(np.ascontiguousarray(array[start : start + ROWS_A_GROUP]).ravel())
            lists = pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
            writer.write_table(pa.table({"values": lists}, schema=schema))


def _unpack_array(file: Path, shape: tuple[int, ...], fitted: Place, name: str) -> None:
    """Write a saved array as a file that can be mapped, a group of rows at a time."""
    source = pq.ParquetFile(file)
    inner = source.schema_arrow.field("values").type.value_type
    arrays.create(fitted, name, shape, inner.to_pandas_dtype())
    start = 0
    for batch in source.iter_batches(ROWS_A_GROUP):
        rows = batch.column(0).flatten().to_numpy().reshape(len(batch), shape[1])
        arrays.write_rows(fitted, name, start, rows)
        start += len(batch)
