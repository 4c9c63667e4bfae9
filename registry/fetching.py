"""Get a saved model's plain data out of a logged model, and nothing else that lies there.

What MLflow logs for a recommender is the saved model under `data/`, and some texts of its own. All
names are judged before a file is fetched, `manifest.json` before the files that it lists, each of
them by size and SHA-256 while it arrives, and all at last by what they claim to hold.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recsys.errors import ModelError, UsageError
from recsys.models import files, manifest
from recsys.models.manifest import MANIFEST, FileFacts, Manifest, shown
from registry.sources import Source, source_of

MLMODEL, DATA = "MLmodel", "data/"
LOADER = "recsys.serving"
TEXTS = {
    MLMODEL,
    "conda.yaml",
    "input_example.json",
    "python_env.yaml",
    # MLflow writes it into the folder itself where it loads a release from this disk.
    "registered_model_meta",
    "requirements.txt",
    "serving_input_example.json",
}
FLAVOUR = {"code", "data", "env", "loader_module", "python_version", "streamable"}
# Thirty times what MLflow writes for a recommender.
MLMODEL_BYTES = 64 << 10
NO_CODE = ("", "null", "~")


def fetch(model_uri: str, folder: Path, expected: Mapping[str, FileFacts] | None = None) -> str:
    """Copy a logged model's plain data into a folder, each file checked as it arrives.

    Args:
        model_uri: `models:/m-…`, `models:/<name>/<version>`, or the address of the files.
        folder: where to; made, and expected to be empty.
        expected: what the files were when the model was approved; None to take the manifest's word.

    Returns:
        The model's digest.

    Raises:
        ModelError: something there is no plain data of a saved model, or was changed.
        FetchError: the files cannot be reached.
        UsageError: the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: name a new folder for the model.")
    source = source_of(model_uri)
    where = shown(model_uri, 200)
    data = _data_folder(source, where)
    there = source.sizes(data)
    if MANIFEST not in there:
        raise ModelError(f"{where} is not a saved model (no {data}{MANIFEST}).")
    for name in sorted(there.keys() - {MANIFEST}):
        manifest.check_name(name, where)
    content = _read(source, f"{data}{MANIFEST}", manifest.JSON_BYTES, where)
    listed = manifest.parse(content, f"{where}: {MANIFEST}")
    if expected is not None:
        _check_approved(listed, expected, where)
    _check_there(listed, there, where)
    for name, facts in listed.files.items():
        _copy(source, f"{data}{name}", folder / name, facts, where)
    try:
        files.examine(folder, listed)
    except ModelError as error:
        raise ModelError(f"{where}: {str(error).replace(f'{folder}/', '')}") from None
    with (folder / MANIFEST).open("xb") as file:
        file.write(content)
    return listed.digest


def _data_folder(source: Source, where: str) -> str:
    """Return the folder of a logged model that holds the saved model; raises ModelError."""
    there = source.sizes("")
    if odd := sorted(there.keys() - TEXTS - {DATA}):
        raise _no_plain_data(where, odd[0])
    if not {MLMODEL, DATA} <= there.keys():
        raise ModelError(f"{where} is not a logged recommender (no {MLMODEL} and {DATA}).")
    data = _flavour(_read(source, MLMODEL, MLMODEL_BYTES, where), where).get("data")
    if not isinstance(data, str) or not re.fullmatch(rf"{DATA}[A-Za-z0-9_][\w.-]*", data):
        raise ModelError(
            f"{where}: {MLMODEL} says that the data is {shown(repr(data))}: it is not used."
        )
    name = f"{data.removeprefix(DATA)}/"
    inner = source.sizes(DATA)
    if odd := sorted(inner.keys() - {name}):
        raise _no_plain_data(where, f"{DATA}{odd[0]}")
    return f"{DATA}{name}"


def _flavour(content: bytes, where: str) -> dict[Any, Any]:
    """Return what MLmodel says of how to load a model, if that is our way; raises ModelError."""
    try:
        # The loader that makes nothing but texts, lists and mappings: no dates, no merged keys.
        described = yaml.load(content.decode(), Loader=yaml.BaseLoader)
        flavours = described["flavors"]
        flavour = flavours["python_function"]
        unknown = sorted({*flavours} - {"python_function"}) + sorted({*flavour} - FLAVOUR)
        loader, code = flavour.get("loader_module"), flavour.get("code", "")
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{where}: {MLMODEL} is damaged or describes no python_function: it is not used."
        ) from None
    if unknown:
        raise ModelError(
            f"{where}: {MLMODEL} has {shown(unknown[0])}, which no recommender has, and which may "
            "run code: the model is not used."
        )
    if loader != LOADER:
        raise ModelError(
            f"{where}: {MLMODEL} names the loader module {shown(str(loader))}, and only {LOADER} "
            "loads plain data: the model is not used."
        )
    if code not in NO_CODE:
        raise ModelError(
            f"{where}: {MLMODEL} has code in {shown(str(code))}, and a recommender has none: "
            "the model is not used."
        )
    return dict(flavour)


def _check_approved(listed: Manifest, expected: Mapping[str, FileFacts], where: str) -> None:
    """Check that a manifest lists what was approved, before a file is fetched."""
    for name in sorted(listed.files.keys() | expected.keys()):
        if listed.files.get(name) != expected.get(name):
            raise ModelError(
                f"{where}: {shown(name)} was changed after it was approved: the model is not used."
            )


def _check_there(listed: Manifest, there: Mapping[str, int], where: str) -> None:
    """Check that the files are those of the manifest, as far as a list of them tells."""
    for name in sorted((there.keys() | listed.files.keys()) - {MANIFEST}):
        if name not in listed.files:
            raise ModelError(f"{where}: {shown(name)} is not in the model's manifest.")
        if name not in there:
            raise ModelError(f"{where}: {name} is in the model's manifest, but is not there.")
        if there[name] != listed.files[name].bytes:
            raise _changed(where, name)


def _read(source: Source, name: str, most: int, where: str) -> bytes:
    """Read a small file; raises ModelError where it has more than `most` bytes."""
    content = bytearray()
    for piece in source.pieces(name):
        content += piece
        if len(content) > most:
            raise ModelError(f"{where}: {name} has more than {most:,} bytes: it is not used.")
    return bytes(content)


def _copy(source: Source, name: str, target: Path, facts: FileFacts, where: str) -> None:
    """Copy a file, and never more of it than was promised; raises ModelError if it is another."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for piece in source.pieces(name):
            size += len(piece)
            if size > facts.bytes:
                break
            digest.update(piece)
            file.write(piece)
    if FileFacts(size, digest.hexdigest()) != facts:
        target.unlink()
        raise _changed(where, target.name)


def _changed(where: str, name: str) -> ModelError:
    return ModelError(f"{where}: {name} was changed after the model was saved: it is not used.")


def _no_plain_data(where: str, name: str) -> ModelError:
    return ModelError(
        f"{where} holds {shown(name)}, which is no part of a recommender and may run code: "
        "the model is not used."
    )
