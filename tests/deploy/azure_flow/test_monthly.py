"""Two months whose every file lies in Blob storage, each by the command that a scheduler calls."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.simulate import run_simulate
from recsys.data.continued import ContinueConfig
from recsys.data.simulate import SimulateConfig
from recsys.published import published_table
from recsys.storage import CommitLog, store_of
from tests import azurite

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def month(root: str, slot: str) -> None:
    """Run a month over what has landed."""
    places = ["--source", f"{root}/landing/*/*.csv", "--output", f"{root}/out", "--slot", slot]
    words = [*places, "--mapping", "simulated", "--max_evals", "1", "--k", "5"]
    command = [sys.executable, "-m", "deploy.monthly", *words]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_second_month_measures_the_campaign_of_the_first(
    emulator: str, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"{azurite.container(emulator, monkeypatch)}/year"
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECSYS_LEDGER", f"{root}/ledger")
    first, then, lists = (
        f"{root}/{n}" for n in ("landing/first", "landing/then", "out/recommendations")
    )
    run_simulate(SimulateConfig(output=first, customers=600, items=120, days=200))
    month(root, "2024-08")
    run_simulate(ContinueConfig(output=then, continues=first, recommendations=lists, effect=1.0))
    month(root, "2024-09")
    assert [commit.number for commit in CommitLog(store_of(lists)).history()] == [1, 2]
    rows = published_table(f"{root}/out/campaign_results", "campaign_results").to_pylist()
    [orders] = [r for r in rows if (r["segment"], r["metric"]) == ("all", "orders_per_customer")]
    assert (orders["recommendations_commit"], orders["verdict"]) == (1, "better")
