"""The same views over Blob storage, in a session of its own: the suite's has no jars for Azure."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.replace import replaced
from recsys.storage import place_of, write_file
from tests import azurite
from tests.deploy.sql.test_campaigns import score
from tests.recsys.builders import SCHEMA, Line

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.mark.slow
def test_views_over_blob_storage_are_those_of_its_commits(
    emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = place_of(f"{azurite.container(emulator, monkeypatch)}/out")
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    for price in (1.0, 2.0):
        rows = pa.Table.from_pylist([Line("007", "0001", 100, price=price).row], SCHEMA)
        sink = io.BytesIO()
        pq.write_table(rows, sink)
        with replaced(root / "ingested", "interactions") as fresh:
            write_file(fresh / "interactions" / "part-0.parquet", sink.getvalue())
    score(root / "recommendations", "raise", ["0002"])
    score(root / "recommendations", "raise", ["0003"])
    statement = (
        "SELECT c.customer_id, c.monetary, r.item_id, r.commit "
        "FROM customers c JOIN recommendations r ON r.customer_id = c.customer_id"
    )
    words = ["--root", str(root), "--format", "csv", statement]
    said = subprocess.run(
        [sys.executable, "-m", "deploy.sql", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == '"007",2,"0003",2'
