"""Models that somebody made to do harm: each would leave a canary if any of it were run.

An attack alters the folder of a logged model, `MLmodel` and `data/model/…`, in place; `refused` is
what the refusal says. Those of `DATA_ATTACKS` alter the saved model alone, `data/model`; more of
these, which only show once its files are opened, are in `tests.registry.malicious_contents`.
"""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import yaml
from numpy.typing import NDArray

from recsys.models import ALGORITHMS, arrays, files, manifest
from recsys.serving import SIGNATURE
from tests.recsys.builders import history_of

CUSTOMERS, ITEMS, WIDTH = 6, 5, 3
NEIGHBOURS = np.array([[(item + 1) % ITEMS, -1, -1] for item in range(ITEMS)], dtype=np.int32)
LEARNED: dict[str, dict[str, NDArray[Any]]] = {
    "als": {
        "customer_factors": np.linspace(-1, 1, CUSTOMERS * WIDTH, dtype=np.float32).reshape(-1, 3),
        "item_factors": np.linspace(0, 1, ITEMS * WIDTH, dtype=np.float32).reshape(-1, 3),
    },
    "item_item": {"neighbours": NEIGHBOURS, "similarities": (NEIGHBOURS >= 0).astype(np.float32)},
    "popularity": {},
}


@dataclass(frozen=True)
class Payload:
    """Code that makes a file: by it one sees that something ran."""

    canary: Path

    @property
    def code(self) -> str:
        return f"import pathlib\npathlib.Path({str(self.canary)!r}).touch()\n"

    @property
    def pickle(self) -> bytes:
        return pickle.dumps(_Runs(self.code))


@dataclass(frozen=True)
class _Runs:
    code: str

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code,)


@dataclass(frozen=True)
class Attack:
    """One way to do harm.

    Attributes:
        name: of the attack.
        build: alters a folder, given the payload.
        refused: pattern of the message that refuses it.
    """

    name: str
    build: Callable[[Path, Payload], None]
    refused: str

    def __str__(self) -> str:
        return self.name


def saved_model(folder: Path, algorithm: str = "als") -> Path:
    """Save a small model without Spark; returns its folder."""
    history = history_of(folder / "history", [(0, 0, 9), (1, 1, 9)], CUSTOMERS, ITEMS, 10)
    (folder / "fitted").mkdir()
    for name, values in LEARNED[algorithm].items():
        arrays.write(folder / "fitted", name, values)
    parameters = ALGORITHMS[algorithm].parameters_class()
    header = files.Header(algorithm, parameters, "digest", 10, CUSTOMERS, ITEMS)
    trend = np.linspace(0.1, 1, ITEMS, dtype=np.float32)
    files.save(folder / "fitted", header, history, trend, folder / "model")
    return folder / "model"


def logged_model(data: Path, folder: Path) -> Path:
    """Write what MLflow logs for a saved model; returns the folder."""
    mlflow.pyfunc.save_model(
        folder,
        loader_module="recsys.serving",
        data_path=str(data),
        signature=SIGNATURE,
        pip_requirements=[],
    )
    return folder


def log_model(model: Path) -> str:
    """Log a model to the tracking server of now; returns its URI."""
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model",
            loader_module="recsys.serving",
            data_path=str(model),
            signature=SIGNATURE,
            pip_requirements=[],
        )
    return str(info.model_uri)


def resign(data: Path) -> None:
    """Make the manifest fit the files."""
    listed = {f.name: manifest.facts_of(f) for f in data.iterdir() if f.name != "manifest.json"}
    (data / "manifest.json").write_bytes(manifest.write(listed))


# --- what is logged around the saved model


def _mlmodel(root: Path, **changes: Any) -> None:
    described = yaml.safe_load((root / "MLmodel").read_text())
    flavour = described["flavors"]["python_function"] | changes
    kept = {key: value for key, value in flavour.items() if value is not None}
    described["flavors"]["python_function"] = kept
    (root / "MLmodel").write_text(yaml.safe_dump(described))


def _pickle(root: Path, payload: Payload) -> None:
    (root / "python_model.pkl").write_bytes(payload.pickle)
    cloudpickle = {"python_model": "python_model.pkl", "cloudpickle_version": "3.1.2"}
    _mlmodel(root, loader_module="mlflow.pyfunc.model", data=None, **cloudpickle)


def _pickle_as_table(root: Path, payload: Payload) -> None:
    (root / "data" / "model" / "items.parquet").write_bytes(payload.pickle)
    resign(root / "data" / "model")
    python_model = "data/model/items.parquet"
    _mlmodel(root, loader_module="mlflow.pyfunc.model", data=None, python_model=python_model)


def _code_folder(root: Path, payload: Payload) -> None:
    (root / "code").mkdir()
    (root / "code" / "canary_code.py").write_text(payload.code)
    _mlmodel(root, loader_module="canary_code", code="code")


def _code_elsewhere(root: Path, payload: Payload) -> None:
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "recsys.py").write_text(payload.code)
    _mlmodel(root, code="../elsewhere")


def _loader(root: Path, payload: Payload) -> None:
    (root.parent / "canary_loader.py").write_text(payload.code)
    _mlmodel(root, loader_module="canary_loader")


def _model_from_code(root: Path, payload: Payload) -> None:
    (root / "model.py").write_text(payload.code)
    _mlmodel(root, loader_module="mlflow.pyfunc.model", data=None, model_code_path="model.py")


def _model_from_code_elsewhere(root: Path, payload: Payload) -> None:
    (root.parent / "model.py").write_text(payload.code)
    _mlmodel(root, model_code_path=str(root.parent / "model.py"))


def _flavour(root: Path, payload: Payload) -> None:
    (root / "data" / "model" / "items.parquet").write_bytes(payload.pickle)
    described = yaml.safe_load((root / "MLmodel").read_text())
    described["flavors"]["sklearn"] = {"pickled_model": "data/model/items.parquet"}
    (root / "MLmodel").write_text(yaml.safe_dump(described))


def _yaml_tag(root: Path, payload: Payload) -> None:
    run = f"flavors: !!python/object/apply:builtins.exec [{json.dumps(payload.code)}]\n"
    (root / "MLmodel").write_text(run)


def _merged_keys(root: Path, payload: Payload) -> None:
    """Write a MLmodel that takes seconds to read for who merges keys, and gigabytes."""
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
    (root / "MLmodel").write_text("\n".join([*lines, "flavors: {python_function: {<<: *a39}}"]))


def _deep_yaml(root: Path, payload: Payload) -> None:
    (root / "MLmodel").write_text("flavors: " + "[" * 50_000)


def _large_mlmodel(root: Path, payload: Payload) -> None:
    with (root / "MLmodel").open("a") as file:
        file.write(f"# {payload.code!r}" * 1000)


def _data_elsewhere(root: Path, payload: Payload) -> None:
    _mlmodel(root, data="../elsewhere")


def _two_folders(root: Path, payload: Payload) -> None:
    (root / "data" / "more").mkdir()
    (root / "data" / "more" / "model.pkl").write_bytes(payload.pickle)


def _symlinked_text(root: Path, payload: Payload) -> None:
    _elsewhere(root / "MLmodel", root.parent / "MLmodel")


def _symlinked_data(root: Path, payload: Payload) -> None:
    _elsewhere(root / "data", root.parent / "elsewhere")


def _symlinked_model(root: Path, payload: Payload) -> None:
    _elsewhere(root / "data" / "model", root.parent / "elsewhere")


def _symlinked_root(root: Path, payload: Payload) -> None:
    _elsewhere(root, root.parent / "elsewhere")


def _elsewhere(place: Path, other: Path) -> None:
    place.rename(other)
    place.symlink_to(other)


def _pipe_beside(root: Path, payload: Payload) -> None:
    (root / "conda.yaml").unlink()
    os.mkfifo(root / "conda.yaml")


MAY_RUN = "which is no part of a recommender and may run code"
LOGGED_ATTACKS = (
    Attack("pickle", _pickle, f"holds python_model.pkl, {MAY_RUN}"),
    Attack("pickle as a table", _pickle_as_table, "MLmodel has python_model, which no recommender"),
    Attack("code folder", _code_folder, f"holds code/, {MAY_RUN}"),
    Attack("code elsewhere", _code_elsewhere, r"MLmodel has code in \.\./elsewhere"),
    Attack("other loader", _loader, "MLmodel names the loader module canary_loader"),
    Attack("model from code", _model_from_code, f"holds model.py, {MAY_RUN}"),
    Attack(
        "model from code elsewhere",
        _model_from_code_elsewhere,
        "MLmodel has model_code_path, which no recommender has",
    ),
    Attack("other flavour", _flavour, "MLmodel has sklearn, which no recommender has"),
    Attack("YAML tag", _yaml_tag, "MLmodel is damaged"),
    Attack("YAML bomb", _merged_keys, "MLmodel has <<, which no recommender has"),
    Attack("deep YAML", _deep_yaml, "MLmodel is damaged"),
    Attack("large MLmodel", _large_mlmodel, "MLmodel has more than 65,536 bytes"),
    Attack("data elsewhere", _data_elsewhere, r"MLmodel says that the data is '\.\./elsewhere'"),
    Attack("two folders", _two_folders, "holds data/more/, which is no part"),
    Attack("symlinked MLmodel", _symlinked_text, "MLmodel is no file, but a symlink"),
    Attack("symlinked data", _symlinked_data, "data is no file, but a symlink"),
    Attack("symlinked model", _symlinked_model, "model is no file, but a symlink"),
    Attack("symlinked root", _symlinked_root, "cannot be opened as a folder: it is a symlink"),
    Attack("pipe beside", _pipe_beside, "conda.yaml is no file, but a pipe"),
)

# --- the saved model itself


def _relist(data: Path, alter: Callable[[dict[str, Any]], None]) -> None:
    listed = json.loads((data / "manifest.json").read_text())
    alter(listed["files"])
    (data / "manifest.json").write_text(json.dumps(listed, indent=2, sort_keys=True))


def _lists(name: str) -> Callable[[Path, Payload], None]:
    """Let the manifest list the payload by a name, where it is such that a copy would go there."""

    def build(data: Path, payload: Payload) -> None:
        (data / "payload").write_bytes(payload.pickle)
        facts = manifest.facts_of(data / "payload")
        (data / "payload").unlink()
        _relist(data, lambda listed: listed.update({name: vars(facts)}))

    return build


def _claims(name: str, **facts: Any) -> Callable[[Path, Payload], None]:
    """Let the manifest claim something of a file that holds the payload."""

    def build(data: Path, payload: Payload) -> None:
        (data / name).write_bytes(payload.pickle)
        _relist(data, lambda listed: listed[name].update(facts))

    return build


def _listed_pickle(data: Path, payload: Payload) -> None:
    (data / "model.pkl").write_bytes(payload.pickle)
    resign(data)


def _unlisted_file(data: Path, payload: Payload) -> None:
    (data / "more.parquet").write_bytes(payload.pickle)


def _twice(data: Path, payload: Payload) -> None:
    (data / "payload").write_bytes(payload.pickle)
    facts = json.dumps(vars(manifest.facts_of(data / "payload")))
    (data / "payload").rename(data / "items.parquet")
    text = (data / "manifest.json").read_text()
    text = text.replace('"files": {', f'"files": {{"items.parquet": {facts},')
    (data / "manifest.json").write_text(text)


def _otherwise_written(data: Path, payload: Payload) -> None:
    text = (data / "manifest.json").read_text()
    (data / "manifest.json").write_text(f"{text}\n")


def _large_manifest(data: Path, payload: Payload) -> None:
    with (data / "manifest.json").open("a") as file:
        file.write(" " * manifest.JSON_BYTES)


def _deep_manifest(data: Path, payload: Payload) -> None:
    (data / "manifest.json").write_text('{"files":' * 100_000)


def _symlinked_table(data: Path, payload: Payload) -> None:
    _elsewhere(data / "items.parquet", data.parents[2] / "elsewhere.parquet")


def _pipe(data: Path, payload: Payload) -> None:
    (data / "items.parquet").unlink()
    os.mkfifo(data / "items.parquet")


def _folder(data: Path, payload: Payload) -> None:
    (data / "items.parquet").unlink()
    (data / "items.parquet").mkdir()
    (data / "items.parquet" / "code.py").write_text(payload.code)


DATA_ATTACKS = (
    *(
        Attack(f"lists {name!r}", _lists(name), "lists .*, which is no plain file name")
        for name in ("../../canary.parquet", "/canary.parquet", "..", ".hidden.parquet")
    ),
    *(
        Attack(f"lists {name!r}", _lists(name), "lists .*, which is no plain file name")
        for name in ("sub/more.parquet", "sub\\more.parquet", "more.parquet\0", "")
    ),
    Attack("lists a pickle", _listed_pickle, "lists model.pkl, and model.pkl is no plain data"),
    Attack("lists code", _lists("code.py"), "lists code.py, and code.py is no plain data"),
    Attack("unlisted file", _unlisted_file, "more.parquet is not in the model's manifest"),
    Attack("listed twice", _twice, "manifest.json is damaged.*says items.parquet twice"),
    Attack("otherwise written", _otherwise_written, "manifest.json is damaged.*is not written as"),
    Attack("large manifest", _large_manifest, "manifest.json has more than 1,048,576 bytes"),
    Attack("deep manifest", _deep_manifest, "manifest.json is damaged.*it is no JSON"),
    Attack(
        "huge claimed size",
        _claims("items.parquet", bytes=1 << 60),
        "manifest.json claims 1,073,741,824 GiB",
    ),
    Attack("negative size", _claims("items.parquet", bytes=-1), "items.parquet has no size"),
    Attack("true size", _claims("items.parquet", bytes=True), "items.parquet has no size"),
    Attack("no SHA-256", _claims("items.parquet", sha256="?" * 64), "items.parquet has no SHA-256"),
    Attack("other content", _claims("items.parquet"), "items.parquet was changed after"),
    Attack("symlinked table", _symlinked_table, "items.parquet is .* a symlink"),
    Attack("pipe", _pipe, "items.parquet is .* a pipe"),
    Attack("folder", _folder, r"items\.parquet(/', which is no plain file| is .* it is a folder)"),
)
