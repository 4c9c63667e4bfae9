"""Packing: what lies in the blocks is what pandas and SciPy make of the same interactions."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from pyspark.sql import SparkSession

from recsys.data import packing
from recsys.data.packing import Target, pack_tables
from recsys.errors import DataError
from recsys.kernels import blocks as kernel
from recsys.kernels.blocks import Block, Blocks, block_size

CUSTOMERS, GUESTS, ITEMS = 40, 15, 23
ROWS = CUSTOMERS + GUESTS
SCHEMA = pa.schema(
    [
        ("customer", pa.int32()),
        ("guest", pa.int32()),
        ("item", pa.int32()),
        ("day", pa.int32()),
        ("quantity", pa.float64()),
        ("unit_price", pa.float64()),
    ]
)
EVENT = ["row", "item", "day"]


def draw(seed: int, lines: int = 3_000) -> pd.DataFrame:
    """Draw lines with many duplicates; the last customer and the last item have none.

    Some lines have no row (a guest of the last window), some no item (unknown to a model).
    """
    random = np.random.default_rng(seed)
    kind = random.choice(3, lines, p=[0.7, 0.25, 0.05])
    item = random.integers(0, ITEMS - 1, lines)
    return pd.DataFrame(
        {
            "customer": pd.array(random.integers(0, CUSTOMERS - 1, lines), "Int32"),
            "guest": pd.array(random.integers(CUSTOMERS, ROWS, lines), "Int32"),
            "item": pd.array(item, "Int32"),
            "day": random.integers(-3, 4, lines),
            # Neither adds up exactly, so another order of adding would show.
            "quantity": random.lognormal(0, 3, lines),
            "unit_price": random.lognormal(0, 3, lines),
        }
    ).assign(
        customer=lambda rows: rows["customer"].where(kind == 0),
        guest=lambda rows: rows["guest"].where(kind == 1),
        item=lambda rows: rows["item"].where(random.random(lines) < 0.95),
    )


def write(folder: Path, lines: pd.DataFrame, files: int = 1, row_group: int = 10**6) -> Path:
    """Write lines to some files."""
    folder.mkdir(parents=True)
    for number, part in enumerate(np.array_split(np.arange(len(lines)), files)):
        table = pa.Table.from_pandas(lines.iloc[part], SCHEMA, preserve_index=False)
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=row_group)
    return folder


def targets(source: Path, size: int = 7, item_size: int = 5) -> tuple[Target, ...]:
    return (
        Target("customers", (source,), ROWS, size),
        Target("items", (source,), ITEMS, item_size, by_item=True),
        Target("truth", (source,), CUSTOMERS, size),
    )


@dataclass(frozen=True)
class Whole:
    """All blocks of a table as one, with a row for each event."""

    events: pd.DataFrame
    rows: int


def whole(blocks: Blocks) -> Whole:
    def frame(block: Block) -> pd.DataFrame:
        row = block.start + np.repeat(np.arange(block.rows), np.diff(block.indptr))
        return pd.DataFrame(
            {
                "row": row,
                "column": block.columns,
                "day": block.days,
                "quantity": block.quantities,
                "revenue": block.revenue,
            }
        )

    found = list(blocks)
    events = pd.concat([frame(block) for block in found], ignore_index=True)
    return Whole(events, sum(block.rows for block in found))


def expected(lines: pd.DataFrame) -> pd.DataFrame:
    """Sum quantity and revenue a row, item and day with pandas, exactly."""
    known = lines.assign(
        row=lines["customer"].fillna(lines["guest"]),
        revenue=lines["quantity"] * lines["unit_price"],
    ).dropna(subset=["row", "item"])
    sums = known.groupby(EVENT, as_index=False)[["quantity", "revenue"]].agg(math.fsum)
    return sums.astype({"row": "int64", "item": "int32", "day": "int32"})


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Compare events in their order; amounts as far as float32 holds them."""
    pd.testing.assert_frame_equal(
        found, wanted.reset_index(drop=True), check_dtype=False, rtol=1e-6
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.arrow"))
    }


@pytest.mark.parametrize("seed", range(3))
def test_blocks_hold_what_pandas_and_scipy_make_of_the_lines(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    lines = draw(seed)
    source = write(tmp_path / "lines", lines, files=3, row_group=400)
    packed = pack_tables(spark, targets(source), tmp_path / "blocks")
    wanted = expected(lines)
    by_row = wanted.rename(columns={"item": "column"})
    by_item = wanted.rename(columns={"item": "row", "row": "column"})
    by_item = by_item[by_row.columns].sort_values(["row", "column", "day"])
    assert_same(whole(packed["customers"]).events, by_row)
    assert_same(whole(packed["items"]).events, by_item)
    assert_same(whole(packed["truth"]).events, by_row[by_row["row"] < CUSTOMERS])
    assert [whole(packed[name]).rows for name in packed] == [ROWS, ITEMS, CUSTOMERS]
    matrix = sp.coo_matrix(
        (wanted["quantity"], (wanted["row"], wanted["item"])), (ROWS, ITEMS)
    ).tocsr()
    parts = [block.matrix(block.quantities, ITEMS) for block in packed["customers"]]
    np.testing.assert_allclose(sp.vstack(parts).toarray(), matrix.toarray(), rtol=1e-5)
    # The last customer and the last item met nobody.
    assert whole(packed["customers"]).events["row"].eq(CUSTOMERS - 1).sum() == 0
    assert whole(packed["items"]).events["row"].max() == ITEMS - 2


def test_the_layout_of_the_input_does_not_change_a_byte(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = draw(9)
    layouts = {"one": (1, 10**6), "many": (7, 10**6), "groups": (2, 100)}
    found = []
    for number, (name, (files, row_group)) in enumerate(layouts.items()):
        # Another order of the lines as well.
        shuffled = lines.sample(frac=1, random_state=number)
        source = write(tmp_path / name / "lines", shuffled, files, row_group)
        pack_tables(spark, targets(source), tmp_path / name / "blocks")
        found.append(contents(tmp_path / name / "blocks"))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 8 + 5 + 6
    # As many lines at a time as fit memory: here 64 of them.
    monkeypatch.setattr(packing, "LINES_AT_A_TIME", 64)
    group = (str(tmp_path / "one" / "lines" / "part-0.parquet"), 0, targets(tmp_path)[:1])
    (tmp_path / "exchange").mkdir()
    pieces = packing._sort_by_block(str(tmp_path / "exchange"), group)
    assert len(pieces) > len(lines) // 64 > 8
    (tmp_path / "customers").mkdir()
    first = [piece for piece in pieces if piece.block == 0]
    packing._pack_block(str(tmp_path), first)
    again = contents(tmp_path / "customers")["block-00000.arrow"]
    assert again == found[0]["customers/block-00000.arrow"]


def test_nothing_but_blocks_is_left_behind(spark: SparkSession, tmp_path: Path) -> None:
    source = write(tmp_path / "lines", draw(1, 200))
    pack_tables(spark, targets(source), tmp_path / "blocks")
    found = sorted(path.name for path in (tmp_path / "blocks").iterdir())
    assert found == ["customers", "items", "truth"]
    names = {file.name for file in (tmp_path / "blocks").rglob("*") if file.is_file()}
    assert all(name.startswith("block-") for name in names)


def test_a_task_that_runs_twice_leaves_the_first_attempts_pieces_whole(tmp_path: Path) -> None:
    source = write(tmp_path / "lines", draw(2, 300))
    group = (str(source / "part-0.parquet"), 0, targets(source))
    (tmp_path / "exchange").mkdir()
    first, second = (packing._sort_by_block(str(tmp_path / "exchange"), group) for _ in range(2))
    assert {piece.file for piece in first}.isdisjoint({piece.file for piece in second})
    for name in ("once", "twice"):
        (tmp_path / name / "customers").mkdir(parents=True)
    for name, pieces in (("once", first), ("twice", second)):
        block = [piece for piece in pieces if (piece.target.name, piece.block) == ("customers", 0)]
        packing._pack_block(str(tmp_path / name), block)
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def test_one_customer_with_more_events_than_a_block(spark: SparkSession, tmp_path: Path) -> None:
    items = 100_000
    lines = pd.DataFrame(
        {
            "customer": pd.array([0] * items, "Int32"),
            "guest": pd.array([None] * items, "Int32"),
            "item": np.arange(items)[::-1],
            "day": 5,
            "quantity": 1.0,
            "unit_price": 2.0,
        }
    )
    source = write(tmp_path / "lines", lines, files=2)
    size, item_size = block_size(1, items), block_size(items, items)
    chosen = (
        Target("customers", (source,), 1, size),
        Target("items", (source,), items, item_size, by_item=True),
    )
    packed = pack_tables(spark, chosen, tmp_path / "blocks")
    assert packed["customers"].events == (items,)
    assert packed["customers"].read(0).columns.tolist() == list(range(items))
    assert len(packed["items"].events) == kernel.FEWEST_BLOCKS
    assert whole(packed["items"]).events["row"].tolist() == list(range(items))


def test_a_block_without_lines_has_no_file_and_is_still_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = draw(4, 50).assign(customer=pd.array([0] * 50, "Int32"), item=1)
    source = write(tmp_path / "lines", lines, files=60)
    packed = pack_tables(spark, targets(source), tmp_path / "blocks")
    assert [n > 0 for n in packed["customers"].events] == [True] + [False] * 7
    assert [block.rows for block in packed["items"]] == [5, 5, 5, 5, 3]
    assert not list((tmp_path / "blocks" / "items").glob("block-00001*"))


def test_a_block_with_too_many_lines_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = draw(3, 500).assign(customer=pd.array([3] * 500, "Int32"), item=2)
    source = write(tmp_path / "lines", lines)
    monkeypatch.setattr(kernel, "MOST_LINES", 499)
    with pytest.raises(
        DataError,
        match=r"7 customers have 500 interactions, more than the 499 .*rows 0 to 6 of "
        "customers.*made null before ingest",
    ):
        pack_tables(spark, targets(source), tmp_path / "blocks")
    assert not (tmp_path / "blocks" / "exchange").exists()
