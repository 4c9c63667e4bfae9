"""Draw a simulated retailer of a chosen size and prepare it; a finished dataset is used again.

The customers and their tastes are the simulator's (`recsys.data.market`); they are drawn in shards
of customers, each a Parquet file, so that a hundred million rows never stand in memory. Everyone
has a customer id and nothing is returned, so that every library gets the same purchases.

  python -m benchmarks.data --size small
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks import command
from recsys import columns as c
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.market import Market, make_market
from recsys.data.prepare import Split, prepare
from recsys.data.purchases import Purchases, make_purchases
from recsys.data.replace import replaced
from recsys.data.tables import read_tables
from recsys.errors import DataError
from recsys.progress import Counter, stage
from recsys.session import spark_session
from recsys.storage import filled

START, DAYS, TASTES, SEED = date(2024, 1, 1), 365, 12, 7
ROWS_A_SHARD = 2_000_000
# Spark overlooks files whose name begins with an underscore.
MARKER = "_drawn.json"


@dataclass(frozen=True)
class Size:
    """A retailer's size; `interactions` is aimed at, not hit."""

    customers: int
    items: int
    interactions: int


SIZES = {
    "small": Size(23_000, 5_000, 1_000_000),
    "medium": Size(138_000, 27_000, 12_000_000),
    "large": Size(2_000_000, 100_000, 100_000_000),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw and prepare what is not there yet."""
    parser = command.parser("data", __doc__)
    parser.add_argument("--size", choices=SIZES, default="small", help="default: small")
    parser.add_argument("--cache", default=".bench", help="folder of the data; default: .bench")
    options = parser.parse_args(arguments)
    folder = Path(options.cache) / options.size
    interactions = drawn(SIZES[options.size], folder / "interactions")
    spark = spark_session("benchmark data")
    prepared(spark, interactions, folder / "dataset")
    spark.stop()


def drawn(size: Size, folder: Path) -> Path:
    """Draw a retailer's interactions into a folder, unless the same ones are there."""
    described = json.dumps(asdict(size) | {"days": DAYS, "tastes": TASTES, "seed": SEED})
    marker = folder / MARKER
    if marker.exists() and marker.read_text("utf-8") == described:
        return folder
    with (
        stage(f"drawing {size.interactions:,} interactions"),
        replaced(folder, MARKER) as fresh,
        filled(fresh) as local,
    ):
        draw(size, local)
        (local / MARKER).write_text(described, "utf-8")
    return folder


def prepared(spark: SparkSession, interactions: Path, folder: Path) -> Dataset:
    """Prepare a dataset with the usual windows, unless a whole one is there."""
    try:
        return load_dataset(folder)
    except DataError:
        with stage("preparing the dataset"):
            return prepare(spark, read_tables(spark, interactions), folder, Split())


def draw(size: Size, folder: Path, rows_a_shard: int = ROWS_A_SHARD) -> None:
    """Draw all shards, one a core at a time."""
    seeds = np.random.SeedSequence(SEED).spawn(2)
    market = make_market(size.customers, size.items, DAYS, TASTES, np.random.default_rng(seeds[0]))
    shards = max(1, -(-size.interactions // rows_a_shard))
    bounds = np.linspace(0, size.customers, shards + 1).astype(int)
    progress = Counter("shard", shards)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(
                _draw_shard,
                customers_of(market, int(first), int(stop)),
                int(first),
                round(size.interactions * (stop - first) / size.customers),
                number,
                seed,
                folder,
            )
            for number, (first, stop, seed) in enumerate(
                zip(bounds[:-1], bounds[1:], seeds[1].spawn(shards), strict=True)
            )
        ]
        for done, future in enumerate(running, start=1):
            future.result()
            progress.show(done)


def customers_of(market: Market, first: int, stop: int) -> Market:
    """Return the same shop with only the customers first … stop - 1."""
    own = ("tastes", "arrival", "departure", "activity", "store")
    return replace(market, **{name: getattr(market, name)[first:stop] for name in own})


def _draw_shard(
    market: Market,
    first: int,
    rows: int,
    number: int,
    seed: np.random.SeedSequence,
    folder: Path,
) -> None:
    """Draw the purchases of some customers, the first of whom has the number `first`."""
    purchases = make_purchases(
        market,
        rows=rows,
        days=DAYS,
        first_day_of_year=START.timetuple().tm_yday,
        guest_share=0.0,
        return_share=0.0,
        rng=np.random.default_rng(seed),
    )
    table = interactions_table(market, purchases, first, number)
    pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd")


def interactions_table(market: Market, purchases: Purchases, first: int, shard: int) -> pa.Table:
    """Turn purchases into the interactions' columns; receipts of two shards never share an id."""
    midnight = datetime(START.year, START.month, START.day, tzinfo=UTC).timestamp()
    seconds = purchases.time + int(midnight)
    customers = [f"{first + n + 1:010d}" for n in range(len(market.tastes))]
    items = [f"{n + 1:06d}" for n in range(len(market.pence))]
    baskets = pc.cast(pa.array(purchases.basket), pa.string())
    return pa.table(
        {
            c.CUSTOMER_ID: pa.array(customers).take(pa.array(purchases.customer)),
            c.ITEM_ID: pa.array(items).take(pa.array(purchases.item)),
            c.BASKET_ID: pc.binary_join_element_wise(str(shard), baskets, "-"),
            c.TIMESTAMP: pa.array(seconds * 1_000_000, pa.timestamp("us", tz="UTC")),
            c.QUANTITY: purchases.quantity.astype(np.float64),
            c.UNIT_PRICE: market.pence[purchases.item] / 100,
        }
    )


if __name__ == "__main__":
    main()
