"""A small shop whose till leaves files in a landing folder, and their ingest in one batch."""

import gzip
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys.data.ingest_report import IngestReport
from recsys.data.interactions import ingest
from recsys.data.mapping import Mapping
from recsys.data.stream.following import Stream, follow
from recsys.data.stream.options import StreamOptions
from recsys.data.stream.verdicts import Patience

TABLES = ("interactions", "items", "customers", "quarantine")
HEADER = "receipt,sku,product,qty,sold_at,price,card,region"
MAPPING = Mapping.checked(
    {
        "version": 1, "customer_id": "card", "item_id": "sku", "basket_id": "receipt",
        "timestamp": "sold_at", "quantity": "qty", "unit_price": "price", "description": "product",
        "customer_columns": ["region"], "cancellation": "^C", "non_product_ids": ["POST"],
        "fail_share": 1,
    },
    "test",
)  # fmt: skip
# No waiting, unless a test is about it.
AT_ONCE = Patience(quiet_seconds=0, patience_seconds=0)
PATIENT = Patience(quiet_seconds=0, patience_seconds=3600)
LONG_AGO = 1_000_000_000


def sales(day: int) -> list[str]:
    """The till's lines of a day: sales, a return of the day before, and lines that are unsound."""
    at = f"2024-01-{day:02} 12:00:00"
    yesterday = [f"C{day},item{day - 1},thing,-1,{at},2.00,card{day - 1},north"] if day > 1 else []
    return [
        f"r{day},item{day},thing,3,{at},2.00,card{day},north",
        f"r{day},item9,other thing,1,{at},4.50,,",
        f"r{day}b,item9,other  thing,{day},{at},4.50,card1,south",
        f"r{day}c,POST,postage,1,{at},3.00,card{day},north",
        f"r{day}d,item1,thing,2,{at},0,card{day},north",
        f"r{day}e,item1",
        *yesterday,
    ]


class Shop:
    """A landing folder, and the stream that follows it."""

    mapping = MAPPING

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.landing, self.output = folder / "landing", folder / "out"
        self.landing.mkdir()

    def put(self, name: str, lines: list[str], header: str = HEADER, end: str = "\n") -> Path:
        """Write a file as a careful sender does: under another name, then renamed."""
        file = self.landing / name
        file.parent.mkdir(exist_ok=True)
        data = ("\n".join([header, *lines]) + end).encode()
        writing = file.with_name(f"{file.name}.tmp")
        writing.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return writing.rename(file)

    def days(self, *days: int) -> None:
        for day in days:
            self.put(f"2024-01-{day:02}.csv", sales(day))

    def stream(self, patience: Patience = AT_ONCE, max_files: int = 1000) -> Stream:
        options = StreamOptions(max_files=max_files, patience=patience)
        return follow(self.spark, str(self.landing), self.output, self.mapping, options)

    def batch(self, *without: str) -> IngestReport:
        """Ingest the same files in one go, beside the stream's tables."""
        source = self.folder / "same"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(self.landing, source)
        for name in without:
            (source / name).unlink()
        return ingest(self.spark, str(source), self.folder / "batch", self.mapping)

    @property
    def told(self) -> dict[str, dict[str, str]]:
        return dict(json.loads((self.output / "stream.json").read_text()))

    def equals_batch(self, *without: str) -> None:
        report = self.batch(*without)
        streamed = IngestReport.model_validate_json((self.output / "ingest.json").read_text())
        assert streamed.model_dump(exclude={"source"}) == report.model_dump(exclude={"source"})
        for table in TABLES:
            assert rows(self.output / table) == rows(self.folder / "batch" / table), table
        assert not (self.output / "work").exists()


def rows(table: Path) -> list[str]:
    return sorted(json.dumps(row, default=str) for row in pq.read_table(table).to_pylist())
