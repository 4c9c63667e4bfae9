"""A retailer with a known truth: raw transactions, and beside them what they were drawn from."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from recsys.config import Config
from recsys.data.market import DEPARTMENTS, REGIONS, Market, make_market
from recsys.data.purchases import Purchases, make_purchases
from recsys.data.replace import replaced
from recsys.data.till import Till, plant, write_months
from recsys.storage import Place, filled, place_of

MARKER = "truth/simulation.json"


class SimulateConfig(Config):
    """What to simulate."""

    output: str = Field(description="folder to write; a former simulation there is replaced")
    customers: int = Field(2_000, ge=10, description="customers with a loyalty card")
    items: int = Field(800, ge=10, description="items in the range")
    days: int = Field(365, ge=28, description="days of trading")
    seed: int = Field(7, ge=0, description="the same seed gives the same bytes")
    rows_per_customer: int = Field(50, ge=5, description="rows to aim at, guests' included")
    tastes: int = Field(12, ge=2, le=100, description="kinds of taste; the rank of the truth")
    guest_share: float = Field(0.2, ge=0, le=0.8, description="share of visits without a card")
    return_share: float = Field(0.02, ge=0, le=0.2, description="share of rows that are returns")
    bad_share: float = Field(0.02, ge=0, le=0.3, description="share of rows with a planted fault")
    start: date = Field(date(2024, 1, 1), description="first day, YYYY-MM-DD")


@dataclass(frozen=True)
class Simulation:
    """What was written.

    Attributes:
        output: the folder; holds `transactions-YYYY-MM.csv` and `truth/`.
        rows: rows in all CSV files, their headers not counted.
        guest_rows: sound rows without a customer.
        planted: reason → rows that `ingest` must quarantine under it.
        digest: SHA-256 over all data files.
    """

    output: Place
    rows: int
    guest_rows: int
    planted: dict[str, int]
    digest: str


def simulate(config: SimulateConfig) -> Simulation:
    """Write a retailer's raw transactions and their truth; same parameters, same bytes.

    Raises:
        UsageError: the output holds something that is not a simulation.
    """
    *_, draw_till, draw_faults = _generators(config)
    output = place_of(config.output)
    with replaced(output, MARKER) as fresh, filled(fresh) as folder:
        market, purchases = trade(config)
        faults = plant(purchases, config.bad_share, draw_faults)
        rows = write_months(Till(market, purchases, config.start, draw_till), faults, folder)
        (folder / "truth").mkdir()
        _write_truth(market, folder / "truth")
        spoilt = {str(reason): len(chosen) for reason, chosen in faults.items()}
        result = Simulation(
            output=output,
            rows=rows,
            guest_rows=int((purchases.customer < 0).sum()),
            planted={reason: n for reason, n in (spoilt | purchases.planted).items() if n},
            digest=digest_of(folder),
        )
        _describe(config, result, folder / MARKER)
    return result


def trade(config: SimulateConfig) -> tuple[Market, Purchases]:
    """Draw the market and what its customers did; the same parameters draw the same."""
    draw_market, draw_purchases, *_ = _generators(config)
    market = make_market(config.customers, config.items, config.days, config.tastes, draw_market)
    purchases = make_purchases(
        market,
        rows=config.customers * config.rows_per_customer,
        days=config.days,
        first_day_of_year=config.start.timetuple().tm_yday,
        guest_share=config.guest_share,
        return_share=config.return_share,
        rng=draw_purchases,
    )
    return market, purchases


def _generators(config: SimulateConfig) -> list[np.random.Generator]:
    """Return the generators of market, purchases, till and faults."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(4)]


def _write_truth(market: Market, folder: Path) -> None:
    """Write what the transactions were drawn from."""
    kinds = len(DEPARTMENTS)
    # How much of each taste's appeal lies in a department, then each customer's best one.
    appeal = np.stack([market.appeal[:, market.department == d].sum(axis=1) for d in range(kinds)])
    favourite = (market.tastes @ appeal.T).argmax(axis=1)
    customers = {
        "customer_id": [f"{i + 1:010d}" for i in range(len(market.tastes))],
        "taste": _vectors(market.tastes),
        "favourite_category": [DEPARTMENTS[d][0] for d in favourite],
        "region": [REGIONS[s % len(REGIONS)] for s in market.store],
        "arrival_day": market.arrival,
        "departure_day": market.departure,
        "activity": market.activity,
    }
    items = {
        "item_id": [f"{i + 1:06d}" for i in range(len(market.pence))],
        "description": market.names,
        "category": [DEPARTMENTS[d][0] for d in market.department],
        "price": market.pence / 100,
        "consumable": market.rebuy_days > 0,
        "rebuy_days": market.rebuy_days,
        "appeal": _vectors(market.appeal.T),
        "launch_day": market.launch,
    }
    pq.write_table(pa.table(customers), folder / "customers.parquet")
    pq.write_table(pa.table(items), folder / "items.parquet")


def _vectors(matrix: np.ndarray) -> pa.Array:
    """Store each row of a matrix as a list of floats."""
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def digest_of(folder: Path) -> str:
    """Digest every file's name and bytes."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _describe(config: SimulateConfig, result: Simulation, path: Path) -> None:
    """Write the parameters and what a correct ingest finds."""
    description = {
        "parameters": config.model_dump(
            mode="json", include=set(SimulateConfig.model_fields) - {"output"}
        ),
        "rows": result.rows,
        "guest_rows": result.guest_rows,
        "planted": result.planted,
        "digest": result.digest,
    }
    path.write_text(json.dumps(description, indent=2) + "\n", "utf-8")
