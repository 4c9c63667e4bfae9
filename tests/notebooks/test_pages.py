"""The pages of docs/notebooks are the notebooks, with results."""

import re

import pytest

from tests.notebooks.kernel import NOTEBOOKS, read_notebook

PAGES = NOTEBOOKS.parent / "docs" / "notebooks"
NAMES = sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_the_notebook_s_code_and_results(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text("utf-8")
    written = [
        cell.source for cell in read_notebook(f"{name}.ipynb").cells if cell.cell_type == "code"
    ]
    shown = re.findall(r"^```python\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    assert shown == written, "run it again: .venv/bin/python notebooks/render.py docs/notebooks"
    images = re.findall(r"\]\((.+?\.png)\)", page)
    assert len(images) >= 2
    assert all((PAGES / image).is_file() for image in images)
    assert page.count("<table") >= 2
    assert not re.search(r"(?<![\w.{}/])/(home|root|work|tmp|Users|usr|opt)\b", page)


def test_no_page_is_without_a_notebook() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == NAMES
