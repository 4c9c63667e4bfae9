"""Show some customers of a published table: what they bought last, what they are recommended, why.

python -m deploy.show --output out/win_back --interactions out/ingested
python -m deploy.show --output out/win_back --interactions out/ingested --customers 25 --items 5
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from recsys import cli
from recsys import columns as c
from recsys.config import Config
from recsys.data.replace import content_of
from recsys.errors import DataError
from recsys.progress import say
from recsys.published import AUDIENCE, published_table, read_manifest
from recsys.samples import item_names
from recsys.storage import Place, read_parquet


class ShowConfig(Config):
    """Parameters of `show`."""

    output: str = Field(description="folder or URL that batch_score publishes to")
    interactions: str = Field(description="folder that ingest wrote, for purchases and names")
    customers: int = Field(10, ge=1, description="customers to show")
    items: int = Field(4, ge=1, description="items to show of each, bought and recommended")


def shown(config: ShowConfig) -> Iterator[str]:
    """Yield a Markdown table, a line a customer, drawn evenly over all who are recommended items.

    Raises:
        DataError: nothing was published, or the interactions are no such folder.
    """
    rows = published_table(config.output).to_pandas()
    audience = published_table(config.output, AUDIENCE).to_pandas()
    commit, manifest = read_manifest(config.output)
    strategy = manifest["facts"]["strategy"]
    held_out = int((audience[c.ARM] == "control").sum())
    yield (
        f"**{strategy['name']}**: {strategy['description']} Commit {commit.number}, "
        f"{len(audience):,} customers, {held_out:,} held out, {len(rows):,} recommendations.\n"
    )
    ingested = content_of(config.interactions)
    names = item_names(ingested)
    picked = evenly(sorted(rows[c.CUSTOMER_ID].unique()), config.customers)
    bought = bought_last(ingested, picked)
    yield "| customer | bought last | recommended (because of) |"
    yield "|---|---|---|"
    for customer in picked:
        last = [_named(names, item) for item in bought[customer][: config.items]]
        given = rows[rows[c.CUSTOMER_ID] == customer].sort_values("rank").head(config.items)
        told = [
            _told(names, item, because) for item, because in given[["item_id", "because"]].values
        ]
        yield f"| {customer} | {' · '.join(last)} | {' · '.join(told)} |"


def evenly(ids: Sequence[str], count: int) -> list[str]:
    """Pick ids in equal steps from the first to the last."""
    return [ids[n] for n in np.unique(np.linspace(0, len(ids) - 1, count).astype(int))]


def bought_last(interactions: Place, customers: Sequence[str]) -> dict[str, list[str]]:
    """Return each customer's distinct items, the newest first."""
    wanted = pc.field(c.CUSTOMER_ID).isin(list(customers))
    names = [c.CUSTOMER_ID, c.ITEM_ID, c.TIMESTAMP]
    table: pd.DataFrame = _read(interactions / "interactions", names, wanted).to_pandas()
    table = table.sort_values([c.TIMESTAMP, c.ITEM_ID], ascending=[False, True])
    items = table.groupby(c.CUSTOMER_ID)[c.ITEM_ID].unique()
    return {customer: [str(item) for item in items.get(customer, [])] for customer in customers}


def _told(names: dict[str, str], item: str, because: Sequence[str] | None) -> str:
    """Write an item with the first of its reasons; its own purchase is called what it is."""
    if because is None or len(because) == 0:
        return _named(names, item)
    if because[0] == item:
        return f"{_named(names, item)} *(bought before)*"
    return f"{_named(names, item)} *({_named(names, because[0])})*"


def _named(names: dict[str, str], item: str) -> str:
    """Write an item's description as a sentence begins, the id where there is none."""
    name = names.get(item, item)
    return name if name == item else name.capitalize()


def _read(folder: Place, names: list[str], wanted: pc.Expression | None = None) -> pa.Table:
    try:
        return read_parquet(folder, columns=names, filters=wanted)
    except (DataError, OSError, pa.ArrowInvalid):
        raise DataError(f"{folder} is no table: give the folder that `ingest` wrote.") from None


def main(config: ShowConfig) -> None:
    """Print the table."""
    for line in shown(config):
        say(line)


if __name__ == "__main__":
    cli.run(main, ShowConfig, __doc__, "python -m deploy.show")
