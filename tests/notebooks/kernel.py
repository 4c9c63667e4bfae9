"""A real kernel of the interpreter that runs the tests, and notebooks executed in it."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.stores import keep_below

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
KERNEL = "the-interpreter-of-the-tests"
PNG, HTML, MARKDOWN = "image/png", "text/html", "text/markdown"


def read_notebook(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / name, as_version=nbformat.NO_CONVERT)


def cells(notebook: NotebookNode) -> Mapping[str, NotebookNode]:
    return {cell.id: cell for cell in notebook.cells}


def shown(notebook: NotebookNode, cell: str, kind: str) -> list[str]:
    """Return what a cell shows, of one media type."""
    outputs = cells(notebook)[cell].outputs
    return ["".join(o.data[kind]) for o in outputs if "data" in o and kind in o.data]


@contextmanager
def own_store(place: Path, **variables: str) -> Iterator[None]:
    """An MLflow store and a kernel in a folder; nothing of the user's own counts."""
    previous, uri = mlflow.get_tracking_uri(), f"sqlite:///{place / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("MLFLOW_") or n == "RECSYS_LEDGER"]:
            patch.delenv(name)
        own = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
        for name, value in (own | variables).items():
            patch.setenv(name, value)
        set_up_kernel(patch, place / "jupyter")
        mlflow.set_tracking_uri(uri)
        keep_below(place)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(previous)


def set_up_kernel(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a kernel of the current interpreter known; nothing of the user's own Jupyter counts."""
    spec = folder / "kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": KERNEL, "language": "python"}))
    patch.setenv("JUPYTER_PATH", str(folder))
    patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))
    patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


def execute(notebook: NotebookNode, timeout: float = 120) -> None:
    """Run every cell in a kernel on the loopback interface; it ends with the last cell."""
    client = NotebookClient(
        notebook,
        kernel_name=KERNEL,
        timeout=timeout,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    client.execute()
    assert client.km is None
