"""Notebooks become pages: a small one, run in a real kernel."""

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.notebooks.kernel import NOTEBOOKS

PLOT = """import matplotlib.pyplot as plt


print("no result")
plt.plot([1, 2])
plt.show()"""


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, for notebooks of a folder of this test."""
    spec = importlib.util.spec_from_file_location("render", NOTEBOOKS / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return module


def test_a_page_holds_words_code_results_and_plots(render: ModuleType, tmp_path: Path) -> None:
    cells = [
        new_markdown_cell("# A title"),
        new_code_cell("import pandas as pd\n\npd.DataFrame({'sales': [17]})"),
        new_code_cell(PLOT),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "small.ipynb")
    render.main(tmp_path / "pages")
    page = (tmp_path / "pages" / "small.md").read_text("utf-8")
    assert page.startswith("# A title\n")
    assert f"```python\n{PLOT}\n```" in page
    assert "<td>17</td>" in page
    assert "<style" not in page
    assert "no result\n" not in page.replace(PLOT, "")
    [image] = (tmp_path / "pages" / "small").glob("*.png")
    assert f"![small](small/{image.name})" in page
    assert nbformat.read(tmp_path / "small.ipynb", 4).cells[1].outputs == []
