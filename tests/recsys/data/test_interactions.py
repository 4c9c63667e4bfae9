"""Ingest: every rule by hand, the sum by hypothesis, and the real retailer's counts."""

import csv
import gzip
import tarfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from recsys.data import interactions
from recsys.data.interactions import IngestReport, ingest
from recsys.data.mapping import Mapping
from recsys.errors import DataError, RecsysError, UsageError

HEADER = ["receipt", "sku", "product", "qty", "sold_at", "price", "card"]
LAX = {
    "version": 1, "customer_id": "card", "item_id": "sku", "basket_id": "receipt",
    "timestamp": "sold_at", "quantity": "qty", "unit_price": "price", "description": "product",
    "time_zone": "Europe/London", "cancellation": "^C", "non_product_ids": ["POST"],
    "non_product_pattern": "^TEST", "max_quantity": 100, "max_unit_price": 50,
    "earliest": "2020-01-01", "fail_share": 1, "upper_case_item_ids": True,
}  # fmt: skip
NOW = datetime(2025, 1, 1, tzinfo=UTC)
Row = list[str]


def mapping(**changes: object) -> Mapping:
    return Mapping.checked(LAX | changes, "test")


def row(
    receipt: str = "1",
    sku: str = "A",
    product: str = "Thing",
    qty: str = "1",
    at: str = "2024-01-05 12:00:00",
    price: str = "2.00",
    card: str = "7",
) -> Row:
    return [receipt, sku, product, qty, at, price, card]


def written(path: Path, rows: list[Row], header: Row = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def judged(
    spark: SparkSession, folder: Path, rows: list[Row], **changes: object
) -> tuple[IngestReport, list[dict[str, object]], list[dict[str, object]]]:
    """Ingest rows; return the report, the interactions, and the quarantine."""
    source = written(folder / "till.csv", rows)
    report = ingest(spark, str(source), folder / "out", mapping(**changes), NOW)
    kept = pq.read_table(folder / "out" / "interactions").to_pylist()
    refused = pq.read_table(folder / "out" / "quarantine").to_pylist()
    return report, kept, refused


def utc(value: object) -> datetime:
    """Read a Parquet timestamp, which Spark may store without its zone."""
    assert isinstance(value, datetime)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BAD = {
    "missing_item_id": row("b1", sku=" "),
    "missing_basket_id": row(""),
    "non_product": row("b2", sku="post"),
    "bad_number": row("b3", price="2,50"),
    "zero_quantity": row("b4", qty="0"),
    "absurd_quantity": row("b5", qty="101"),
    "zero_or_negative_price": row("b6", price="0.00"),
    "absurd_price": row("b7", price="50.01"),
    "bad_timestamp": row("b8", at="2024-13-01 12:00:00"),
    "ancient_timestamp": row("b9", at="2019-12-31 12:00:00"),
    "future_timestamp": row("b10", at="2025-01-01 00:00:01"),
    "bad_encoding": row("b11", product="Caf\ufffd"),
    "malformed_row": ["b12", "A"],
    "duplicate_row": row("ok"),
    "unmatched_return": row("b13", sku="B", qty="-1"),
}


def test_each_bad_row_lands_under_its_reason_alone(spark: SparkSession, tmp_path: Path) -> None:
    nul = row("b14", product="a\x00b")
    malformed = [*row("b15"), "too", "many"]
    report, kept, refused = judged(
        spark, tmp_path, [row("ok"), *BAD.values(), nul, malformed, row("t", sku="test1")]
    )
    assert [r["basket_id"] for r in kept] == ["ok"]
    found = {r["receipt"]: r["reasons"] for r in refused}
    for reason, bad in BAD.items():
        name = "b12,A" if reason == "malformed_row" else bad[0] or None
        assert found[name] == [reason]
    assert found["b14"] == ["bad_encoding"]
    assert found[",".join(malformed)] == ["malformed_row"]
    assert found["t"] == ["non_product"]
    assert (report.rows_in, report.rows_accepted, report.rows_quarantined) == (19, 1, 18)
    twice = {"malformed_row", "bad_encoding", "non_product"}
    assert report.reasons == {reason: 2 if reason in twice else 1 for reason in BAD}


def test_a_row_carries_all_its_reasons_and_its_original_values(
    spark: SparkSession, tmp_path: Path
) -> None:
    bad = row("x", sku=" post ", qty="nil", price="-3", at="soon", card="007.0")
    _, _, refused = judged(spark, tmp_path, [row(), bad])
    assert refused == [
        dict(zip(HEADER, bad, strict=True))
        | {"reasons": ["non_product", "bad_number", "zero_or_negative_price", "bad_timestamp"]}
    ]


def test_ids_times_and_texts_are_normalised(spark: SparkSession, tmp_path: Path) -> None:
    report, kept, _ = judged(
        spark,
        tmp_path,
        [
            row("1", "85123a", " Cafe\u0301 ", "2", "2024-07-01 12:00:00", "1.5", "0017850.0"),
            row("2", "\u00a085123A", "Cafe\u0301", "1", "2024-01-05 12:00:00Z", "1.5", "0017850"),
            row("3", "001", "NULL", "1", "2024-01-06T00:30:00+01:00", "1.5", "nan"),
        ],
    )
    assert sorted(
        (r["basket_id"], r["customer_id"], r["item_id"], utc(r["timestamp"])) for r in kept
    ) == [
        ("1", "0017850", "85123A", datetime(2024, 7, 1, 11, tzinfo=UTC)),
        ("2", "0017850", "85123A", datetime(2024, 1, 5, 12, tzinfo=UTC)),
        ("3", None, "001", datetime(2024, 1, 5, 23, 30, tzinfo=UTC)),
    ]
    items = pq.read_table(tmp_path / "out" / "items").to_pylist()
    assert items == [
        {"item_id": "001", "description": None, "category": None},
        {"item_id": "85123A", "description": "Café", "category": None},
    ]
    assert report.guest_share == pytest.approx(1 / 3)


def test_the_tables_have_exactly_their_columns(spark: SparkSession, tmp_path: Path) -> None:
    judged(spark, tmp_path, [row(), row("b", sku="")])
    interactions = pq.read_schema(next((tmp_path / "out" / "interactions").glob("*.parquet")))
    types = {name: str(interactions.field(name).type).split("[")[0] for name in interactions.names}
    assert types == {
        "customer_id": "string", "item_id": "string", "basket_id": "string",
        "timestamp": "timestamp", "quantity": "double", "unit_price": "double",
    }  # fmt: skip
    quarantine = pq.read_schema(next((tmp_path / "out" / "quarantine").glob("*.parquet")))
    assert quarantine.names == [*HEADER, "reasons"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "customers", "ingest.json", "interactions", "items", "quarantine",
    ]  # fmt: skip
    text = (tmp_path / "out" / "ingest.json").read_text()
    assert IngestReport.model_validate_json(text).rows_in == 2


# name → sales and returns as (receipt, day, quantity), what is left, and the reasons found.
NETTING = {
    "full": ([("1", 1, 3), ("C2", 2, -3)], {}, {"1": ["sale_cancelled"], "C2": ["return_netted"]}),
    "partial": ([("1", 1, 3), ("C2", 2, -1)], {"1": 2.0}, {"C2": ["return_netted"]}),
    "more than was sold": (
        [("1", 1, 3), ("C2", 2, -5)],
        {},
        {"1": ["sale_cancelled"], "C2": ["return_netted", "unmatched_return"]},
    ),
    "before the sale": (
        [("C1", 1, -1), ("2", 2, 3)],
        {"2": 3.0},
        {"C1": ["unmatched_return"]},
    ),
    "latest sale first": (
        [("1", 1, 3), ("2", 2, 2), ("C3", 3, -4)],
        {"1": 1.0},
        {"2": ["sale_cancelled"], "C3": ["return_netted"]},
    ),
    "a later sale is not touched": (
        [("1", 1, 3), ("C2", 2, -2), ("3", 3, 2)],
        {"1": 1.0, "3": 2.0},
        {"C2": ["return_netted"]},
    ),
    "two returns": (
        [("1", 1, 3), ("C2", 2, -1), ("3", 3, 1), ("C4", 4, -2)],
        {"1": 1.0},
        {"C2": ["return_netted"], "3": ["sale_cancelled"], "C4": ["return_netted"]},
    ),
    "same minute": (
        [("1", 1, 1), ("C2", 1, -1)],
        {},
        {"1": ["sale_cancelled"], "C2": ["return_netted"]},
    ),
    "fractions": (
        [("1", 1, 0.3), ("C2", 2, -0.1), ("C3", 3, -0.2)],
        {},
        {"1": ["sale_cancelled"], "C2": ["return_netted"], "C3": ["return_netted"]},
    ),
    "a cancelled duplicate": (
        [("1", 1, 2), ("1", 1, 2), ("C2", 2, -2)],
        {},
        {"1": ["duplicate_row", "sale_cancelled"], "C2": ["return_netted"]},
    ),
}  # fmt: skip


def test_returns_are_netted_against_the_latest_earlier_sales(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [
        row(receipt, qty=str(units), at=f"2024-01-0{day} 12:00:00", card=name)
        for name, (events, _, _) in NETTING.items()
        for receipt, day, units in events
    ]
    guest = row("C9", qty="-1", card="")
    other_item = row("C9", sku="B", qty="-1", at="2024-01-09 12:00:00", card="partial")
    report, kept, refused = judged(spark, tmp_path, [*rows, guest, other_item])
    for name, (_, left, reasons) in NETTING.items():
        assert {r["basket_id"]: r["quantity"] for r in kept if r["customer_id"] == name} == left
        found: dict[str, list[str]] = {}
        for r in refused:
            if r["card"] == name and r["sku"] == "A":
                found.setdefault(r["receipt"], []).extend(r["reasons"])
        assert {k: sorted(v) for k, v in found.items()} == reasons, name
    others = [r["reasons"] for r in refused if r["receipt"] == "C9"]
    assert others == [["unmatched_return"]] * 2
    assert report.rows_in == report.rows_accepted + report.rows_quarantined == len(rows) + 2
    assert report.units_netted == pytest.approx(3 + 1 + 3 + 4 + 2 + 3 + 1 + 0.3 + 2)


def test_a_negative_quantity_may_be_no_return(spark: SparkSession, tmp_path: Path) -> None:
    rows = [row("1", qty="3"), row("2", qty="-1", at="2024-01-06 12:00:00")]
    _, kept, refused = judged(spark, tmp_path, rows, negative_quantity_is_return=False)
    assert [r["quantity"] for r in kept] == [3.0]
    assert [r["reasons"] for r in refused] == [["negative_quantity"]]


def test_items_take_the_most_frequent_description(spark: SparkSession, tmp_path: Path) -> None:
    names = {"A": ["x", "y", "y", ""], "B": ["q", "p"], "C": ["", "only"]}
    rows = [
        row(str(i), sku=sku, product=name)
        for sku, given in names.items()
        for i, name in enumerate(given)
    ]
    # Quarantined rows say nothing about items.
    judged(spark, tmp_path, [*rows, *[row(f"z{i}", "A", "w", price="0") for i in range(5)]])
    items = pq.read_table(tmp_path / "out" / "items").to_pylist()
    assert {i["item_id"]: i["description"] for i in items} == {"A": "y", "B": "p", "C": "only"}


dirty = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "C3", ""]),
        st.sampled_from(["A", "a", "POST", "", "B\x00"]),
        st.sampled_from(["Thing", "Ca\ufffd", 'a "quoted", one', "é", ""]),
        st.sampled_from(["1", "2", "-1", "-2", "0", "x", "1e9", "NaN"]),
        st.sampled_from(["2024-01-05 12:00:00", "2024-01-06 12:00:00", "never", "2199-01-01 0:00"]),
        st.sampled_from(["2.00", "0", "-1", "", "1e300"]),
        st.sampled_from(["7", "7.0", "", "008"]),
    ).map(list).flatmap(lambda r: st.sampled_from([r, r, r, r[:3], [*r, "more"]])),
    min_size=60, max_size=60,
)  # fmt: skip


# Each example is a Spark job of seconds: few of them, many rows each, no shrinking.
@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(dirty)
def test_in_is_accepted_and_quarantined(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    report, kept, refused = judged(
        spark, tmp_path_factory.mktemp("dirty"), [row("ok", sku="OK"), *rows]
    )
    assert report.rows_in == len(rows) + 1 == len(kept) + len(refused)
    assert all(r["reasons"] for r in refused)
    assert report.reasons == Counter(reason for r in refused for reason in r["reasons"])
    assert all(r["item_id"] and r["quantity"] > 0 and r["unit_price"] > 0 for r in kept)


def test_an_output_may_have_a_name_like_a_pattern(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "x[1]"
    folder.mkdir()
    (tmp_path / "x1").mkdir()
    report, kept, _ = judged(spark, folder, [row("1"), row("2")])
    assert report.rows_in == len(kept) == 2


def test_csv_gz_and_parquet_of_the_same_rows_agree(spark: SparkSession, tmp_path: Path) -> None:
    rows = [row(str(i), qty=str(i), price=f"{i}.5", card=f"00{i % 3}") for i in range(1, 9)]
    rows.append(row("9", card=""))
    plain = written(tmp_path / "till.csv", rows)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    columns = dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True))
    typed: dict[str, object] = dict(columns) | {
        "qty": [float(q) for q in columns["qty"]],
        "price": [float(p) for p in columns["price"]],
        "sold_at": [datetime.fromisoformat(at) for at in columns["sold_at"]],
    }
    pq.write_table(pa.table(typed), tmp_path / "typed.parquet")
    found = []
    for i, path in enumerate([plain, packed, tmp_path / "typed.parquet"]):
        ingest(spark, str(path), tmp_path / f"out{i}", mapping(), NOW)
        table = pq.read_table(tmp_path / f"out{i}" / "interactions")
        found.append(table.sort_by("basket_id").to_pylist())
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 9


def _truncated(folder: Path) -> Path:
    lines = "\n".join(",".join(row(str(i))) for i in range(20_000))
    packed = gzip.compress(f"{','.join(HEADER)}\n{lines}\n".encode())
    (folder / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    return folder / "cut.csv.gz"


def _file(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _mixed(folder: Path) -> Path:
    written(folder / "a.csv", [row()])
    written(folder / "b.csv", [row()], HEADER[::-1])
    return folder


def _kinds(folder: Path) -> Path:
    written(folder / "a.csv", [row()])
    pq.write_table(pa.table({"a": ["1"]}), folder / "b.parquet")
    return folder


REFUSED = {
    "no source": (lambda f: f / "none.csv", {}, "does not exist: give a file"),
    "no files": (lambda f: f, {}, "has no .csv, .csv.gz or .parquet files"),
    "other format": (lambda f: _file(f, "x.xlsx", b"x"), {}, "must end in .csv"),
    "empty file": (lambda f: _file(f, "e.csv", b""), {}, "is empty"),
    "header only": (lambda f: written(f / "h.csv", []), {}, "a header but no rows"),
    "missing columns": (
        lambda f: written(f / "m.csv", [["1"]], ["receipt"]), {}, "no column card, sku, .*it has re"
    ),
    "column twice": (
        lambda f: written(f / "m.csv", [], [*HEADER, "sku"]), {}, "names a column twice"
    ),
    "not gzip": (lambda f: _file(f, "n.csv.gz", b"plain"), {}, "n.csv.gz cannot be read"),
    "truncated gzip": (_truncated, {}, "cut.csv.gz cannot be read .truncated"),
    "not Parquet": (lambda f: _file(f, "n.parquet", b"plain"), {}, "n.parquet cannot be read"),
    "differing columns": (_mixed, {}, "b.csv has the columns .* but a.csv has"),
    "mixed kinds": (_kinds, {}, "mixes CSV and Parquet"),
    "all bad": (
        lambda f: written(f / "a.csv", [row(price="0")] * 2), {}, "all 2 rows .* zero_or_neg"
    ),
    "too many bad": (
        lambda f: written(f / "a.csv", [row(), row("2", sku="")]), {"fail_share": 0.4},
        r"1 of 2 rows \(50.0%\) are missing_item_id, .* limit of 40.0%.*fail_share_of.missing_item",
    ),
    "stale": (
        lambda f: written(f / "a.csv", [row()]), {"stale_after_days": 30}, "more than 30 days ago"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_and_nothing_changes(
    spark: SparkSession, tmp_path: Path, case: str
) -> None:
    make, changes, message = REFUSED[case]
    (tmp_path / "in").mkdir()
    output = tmp_path / "out"
    output.mkdir()
    (output / "ingest.json").write_text("the former one")
    with pytest.raises(RecsysError, match=message) as caught:
        ingest(spark, str(make(tmp_path / "in")), output, mapping(**changes), NOW)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir() if p.name != "in"] == ["out"]
    assert [p.read_text() for p in output.iterdir()] == ["the former one"]


def test_an_output_that_is_something_else_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds something else"):
        judged(spark, tmp_path, [row()])
    assert (tmp_path / "out" / "thesis.txt").read_text() == "dear"


@pytest.mark.parametrize("source", ["raw", "raw/*.csv", "*/till.csv", "raw/till.csv"])
def test_a_source_in_the_output_is_refused_and_stands(tmp_path: Path, source: str) -> None:
    (tmp_path / "out" / "raw").mkdir(parents=True)
    till = written(tmp_path / "out" / "raw" / "till.csv", [row()])
    (tmp_path / "out" / "ingest.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    spark: Any = None
    for folder in ("out", "link"):
        with pytest.raises(UsageError, match="choose another output"):
            ingest(spark, f"{tmp_path}/{folder}/{source}", f"{tmp_path}/out", mapping())
    assert till.exists()


@pytest.mark.parametrize(
    ("name", "message"), [("at 10:00.csv", "has a colon"), ("caf\udce9.csv", "is not UTF-8")]
)
def test_a_name_that_spark_cannot_read_is_told(tmp_path: Path, name: str, message: str) -> None:
    written(tmp_path / name, [row()])
    spark: Any = None
    with pytest.raises(DataError, match=f"{message}.*rename it"):
        ingest(spark, str(tmp_path), tmp_path.with_name("out"), mapping())


def test_bytes_of_another_encoding_stop_no_ingest_unless_they_stand_in_the_header(
    spark: SparkSession, tmp_path: Path
) -> None:
    till = written(tmp_path / "till.csv", [row(), row(receipt="2", product="café")])
    till.write_bytes(till.read_text().encode("latin-1"))
    report = ingest(spark, str(till), tmp_path / "out", mapping())
    assert (report.rows_accepted, report.reasons) == (1, {"bad_encoding": 1})
    till.write_bytes(till.read_text("latin-1").replace("product", "café").encode("latin-1"))
    with pytest.raises(DataError, match="header that is not UTF-8: name the file's `encoding`"):
        ingest(spark, str(till), tmp_path / "out", mapping())


def test_a_full_disk_is_told(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Spark tells it, within a long text of its own."""

    def full(*given: object) -> None:
        raise Py4JError("An error occurred while calling o1.parquet.\nNo space left on device\n")

    monkeypatch.setattr(interactions, "kept", full)
    source = written(tmp_path / "till.csv", [row()])
    with pytest.raises(DataError, match="the disk is full: make room"):
        ingest(spark, str(source), tmp_path / "out", mapping())
    assert [*tmp_path.iterdir()] == [source]


def test_a_rerun_replaces_the_former_result(spark: SparkSession, tmp_path: Path) -> None:
    judged(spark, tmp_path, [row("1"), row("2")])
    report, kept, _ = judged(spark, tmp_path, [row("3")], warn_share=0)
    assert [r["basket_id"] for r in kept] == ["3"]
    assert report.warnings == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "till.csv"]


def test_wide_use_and_frequent_reasons_are_reported(spark: SparkSession, tmp_path: Path) -> None:
    rows = [row(str(i), card="9") for i in range(3)] + [row("x"), row("y", price="0")]
    report, _, _ = judged(spark, tmp_path, rows, heavy_customer_rows=2)
    assert (report.heavy_customers, report.heavy_share) == (1, 0.75)
    assert report.warnings == ("zero_or_negative_price: 1 rows, 20.0% of all",)


@pytest.mark.slow
def test_online_retail_adds_up_in_both_forms(
    spark: SparkSession, online_retail: Path, tmp_path: Path
) -> None:
    with tarfile.open(online_retail / "by-day.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    preset = Mapping.load("online_retail")
    whole = ingest(spark, str(online_retail / "online_retail.csv.gz"), tmp_path / "a", preset)
    days = ingest(spark, str(tmp_path / "by-day"), tmp_path / "b", preset)
    assert len(days.files) == 305
    assert whole.rows_in == days.rows_in == 541_909
    assert whole.rows_accepted + whole.rows_quarantined == 541_909
    assert whole.reasons == days.reasons
    # Counted independently of Spark over the file.
    assert whole.reasons["duplicate_row"] == 5_268
    assert whole.reasons["zero_or_negative_price"] == 2_517
    assert whole.rows_accepted == 519_771
    one, other = (spark.read.parquet(str(tmp_path / name / "interactions")) for name in "ab")
    assert one.exceptAll(other).isEmpty()
    assert other.exceptAll(one).isEmpty()
