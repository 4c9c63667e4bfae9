"""Published campaigns and purchases made by hand."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.publish import publish
from recsys import schemas
from recsys.published import AUDIENCE, RECOMMENDATIONS, write_part
from recsys.storage import CommitLog, store_of
from recsys.strategy import HoldOut, Strategy
from tests.recsys.builders import FIRST_DAY, Line, write_interactions

START_DAY = FIRST_DAY + 60
EPOCH = date(1970, 1, 1)


def day(number: int) -> date:
    """Return the date of a day of `builders`, counted from 1970-01-01."""
    return EPOCH + timedelta(days=number)


START = day(START_DAY)


def publish_campaign(
    output: Path,
    arms: Mapping[str, str],
    lists: Mapping[str, Iterable[str]] | None = None,
    start: int = START_DAY,
    name: str = "win_back",
    share: float = 0.5,
    **facts: Any,
) -> int:
    """Publish an audience (customer → arm) and its lists (customer → items).

    Treated customers of whom `lists` says nothing are given the item `gift`.
    """
    store = store_of(str(output), create=True)
    head = CommitLog(store).head()
    number = (head.number if head else 0) + 1
    treated = [customer for customer, arm in arms.items() if arm == "treatment"]
    lists = {customer: ["gift"] for customer in treated} | dict(lists or {})
    scored_at = datetime.combine(day(start), datetime.min.time(), UTC)
    rows = [
        {
            "customer_id": customer, "rank": rank, "item_id": item, "score": 1.0, "source": "model",
            "because": None, "strategy": name, "model_name": "recommender", "model_version": 3,
            "scored_at": scored_at,
        }
        for customer, items in lists.items()
        for rank, item in enumerate(items, 1)
    ]  # fmt: skip
    audience = [
        {"customer_id": customer, "arm": arm, "items": len(list(lists.get(customer, [])))}
        for customer, arm in arms.items()
    ]
    strategy = Strategy(
        name=name,
        description=facts.pop("description", ""),
        hold_out=HoldOut(share=share, salt=facts.pop("salt", name)),
        audience=facts.pop("audience", None),
    )
    run = f"runs/{name}/{number:04d}"
    parts = [
        write_part(store, run, table, "part-0.parquet", pa.Table.from_pylist(content, schema))
        for table, content, schema in (
            (RECOMMENDATIONS, rows, schemas.RECOMMENDATIONS),
            (AUDIENCE, audience, schemas.AUDIENCE),
        )
    ]
    told = {
        "strategy": strategy.model_dump(mode="json"),
        "model_name": "recommender",
        "model_version": 3,
        "scored_at": scored_at.isoformat(),
        "interactions_end": day(start).isoformat(),
        "mlflow_run_id": "scored",
        **facts,
    }
    return publish(store, run, parts, told, number - 1).number


def halves(customers: int) -> dict[str, str]:
    """Return customer → arm, every second one held out."""
    return {f"{n:04d}": "control" if n % 2 else "treatment" for n in range(customers)}


def purchases(
    customers: int, lift: float = 0.0, days: int = 28, before: int = 56, seed: int = 3
) -> list[Line]:
    """Draw purchases around START_DAY: people differ, and `halves`' treated buy more by `lift`.

    The treated's added purchases are more orders, not larger ones.
    """
    random = np.random.default_rng(seed)
    rate = random.gamma(4.0, 0.02, customers)
    lines = []
    for n in range(customers):
        more = 1 + lift * (n % 2 == 0)
        for when in range(START_DAY - before, START_DAY + days):
            if random.random() < rate[n] * (more if when >= START_DAY else 1):
                price = round(float(random.lognormal(3.0, 0.4)), 2)
                lines.append(Line(f"{n:04d}", f"item{random.integers(9)}", when, 1.0, price))
    # The days begin and end where they should, whoever buys.
    ends = (START_DAY - before, START_DAY + days - 1)
    return [*lines, *(Line(None, "item0", when, 2.0, 5.0, f"guest{when}") for when in ends)]


def write(folder: Path, lines: Iterable[Line], regions: Mapping[str, str] | None = None) -> str:
    """Write an ingested folder without items; return its path."""
    write_interactions(folder / "interactions", lines)
    if regions:
        (folder / "customers").mkdir()
        columns = {"customer_id": list(regions), "region": list(regions.values())}
        pq.write_table(pa.table(columns), folder / "customers" / "part-0.parquet")
    return str(folder)
