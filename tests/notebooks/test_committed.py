"""Notebooks are committed without results, and work on every machine."""

import re

import nbformat
import pytest

from tests.notebooks.kernel import NOTEBOOKS, read_notebook


@pytest.mark.parametrize("name", sorted(file.name for file in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_is_committed_without_results_and_paths_of_a_machine(name: str) -> None:
    notebook, text = read_notebook(name), (NOTEBOOKS / name).read_text("utf-8")
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert all(re.fullmatch(r"[a-z][a-z-]+", cell.id) for cell in notebook.cells)
    assert not re.search(r"(?<![\w.{}/])/(home|root|work|tmp|Users|usr|opt)\b|[A-Z]:\\\\", text)
