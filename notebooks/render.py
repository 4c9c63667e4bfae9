"""Run the notebooks on what a flow left, and write them with their results as pages of the docs.

.venv/bin/python notebooks/render.py docs/notebooks

The notebooks themselves stay without results. Which flow they read: see the table in each.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from nbformat import NotebookNode

HERE = Path(__file__).parent
SECONDS_A_CELL = 600
# What pandas puts around a table for Jupyter alone.
STYLE = re.compile(r"<style scoped>.*?</style>\n", re.DOTALL)


def executed(name: str) -> NotebookNode:
    """Return a notebook with the results of all its cells."""
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    place = {"metadata": {"path": str(HERE)}}
    NotebookClient(notebook, timeout=SECONDS_A_CELL, resources=place).execute()
    return notebook


def write_page(notebook: NotebookNode, name: str, folder: Path) -> None:
    """Write a notebook with its results as Markdown, and its plots beside it."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Progress and Spark's own words are no results.
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream"]
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": name, "output_files_dir": name}
    )
    text = re.sub(r"^ +$", "", STYLE.sub("", text), flags=re.MULTILINE).strip()
    text = text.replace("![png]", f"![{name}]")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(f"{text}\n", "utf-8")
    for file, data in resources["outputs"].items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(data)


def main(folder: Path) -> None:
    """Write the pages of all notebooks."""
    for file in sorted(HERE.glob("*.ipynb")):
        print(f"▸ {file.name}", flush=True)
        write_page(executed(file.stem), file.stem, folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
