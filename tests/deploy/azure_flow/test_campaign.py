"""A campaign that lies in Blob storage has the results of the same one on this disk.

There its files are ingested as a stream, here as a batch: that makes no difference either.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.data.replace import content_of
from recsys.published import published_table
from recsys.storage import place_of, read_file, read_parquet
from tests import azurite
from tests.deploy.azure_flow.campaign import run_campaign

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ORDER = [(name, "ascending") for name in ("customer_id", "basket_id", "item_id", "timestamp")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_campaign_has_the_same_results_in_blob_storage(
    emulator: str,
    mlflow_store: str,
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = str(tmp_path / "campaign"), f"{azurite.container(emulator, monkeypatch)}/campaign"
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    run_campaign(here, "batch", spark)
    # In a session of its own: the suite's has no jars for Azure.
    command = [sys.executable, "-m", "tests.deploy.azure_flow.campaign", there, "stream"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    rows, same = (
        published_table(f"{root}/campaign_results", "campaign_results").to_pylist()
        for root in (here, there)
    )
    assert rows == same
    [orders] = [r for r in rows if (r["segment"], r["metric"]) == ("all", "orders_per_customer")]
    assert (orders["verdict"], orders["days"]) == ("better", 28)
    bought, same_bought = (
        read_parquet(content_of(f"{root}/ingested") / "interactions").sort_by(ORDER)
        for root in (here, there)
    )
    assert bought.equals(same_bought)
    text, same_text = (read_file(place_of(f"{root}/answer.csv")) for root in (here, there))
    assert text == same_text
    assert len((text or b"").splitlines()) == len(rows) + 1
    answer, same_answer = (
        read_parquet(place_of(f"{root}/answer.parquet")) for root in (here, there)
    )
    assert answer.equals(same_answer)
    assert len(answer) > 4
