"""The recommender of docs/extending.md, added to a copy of the project as the page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.data.dataset import Dataset

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
CODE, LINE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COPIED = ("recsys", "experiments", "registry", "deploy", "tests", "pyproject.toml", "conda.yaml")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with one more file and one more line."""
    copy = tmp_path_factory.mktemp("extended")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    (copy / "recsys" / "models" / "ease.py").write_text(CODE)
    listing = copy / "recsys" / "models" / "__init__.py"
    added, changed = LINE.split("…\n")
    text = re.sub(r"    recommender\.name: .*\n", changed, listing.read_text())
    text = text.replace("from recsys.models.item_item", f"{added}from recsys.models.item_item")
    listing.write_text(text)
    return copy


def python(extended: Path, *words: str, **environment: str) -> str:
    """Run Python in the copy; it must end well. Returns what it printed."""
    # The copy stands first on the path, and no setting of this process's tests gets into it.
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MLFLOW", "SPARK"))}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=extended,
        env=own | {"PYTHONPATH": str(extended)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def test_the_page_s_code_is_in_the_project_s_style(extended: Path) -> None:
    for check in (("check",), ("format", "--check")):
        python(extended, "-m", "ruff", *check, "recsys/models/ease.py", "recsys/models/__init__.py")
    python(extended, "-m", "mypy", "-p", "recsys.models")


def test_it_keeps_the_contract(extended: Path) -> None:
    said = python(
        extended, "-m", "pytest", "-q", "tests/recsys/models/test_contract.py", "-k", "ease"
    )
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > 15
    assert "failed" not in said


def test_it_trains_as_the_page_says(extended: Path, rolling: Dataset, mlflow_store: str) -> None:
    commands = re.findall(r"^python -m (experiments\.train ease .*)$", PAGE, re.MULTILINE)
    assert commands
    for command in commands:
        words = command.replace("out/dataset", str(rolling.path)).split()
        said = python(extended, "-m", *words, MLFLOW_TRACKING_URI=mlflow.get_tracking_uri())
        assert "ease, discover: test ndcg@10" in said
    experiment = MlflowClient().get_experiment_by_name("recsys")
    assert experiment is not None
    runs = MlflowClient().search_runs([experiment.experiment_id])
    assert {run.data.params["algorithm"] for run in runs} == {"ease"}
    assert all("test/ndcg_at_10" in run.data.metrics for run in runs)
