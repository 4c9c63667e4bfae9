"""A strategy against a history: who is meant, which items may be given, what was given lately.

Conditions are Spark SQL over two tables of facts, which `python -m deploy.batch_score --explain`
lists; what comes out are arrays that every scoring task maps.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.catalogue import read_categories
from recsys.data.dataset import History
from recsys.data.tables import RetailTables
from recsys.errors import DataError, UsageError
from recsys.kernels.blocks import Block, Blocks
from recsys.kernels.topk import Caps
from recsys.models import arrays
from recsys.ranker import Mask, Rules
from recsys.storage import (
    Place,
    fetched,
    make_folder,
    place_of,
    read_parquet,
    spark_path,
    spark_source,
)
from recsys.strategy import ItemRules, Rung, SeenByCategory, SeenRule, Strategy

AUDIENCE, ALLOWED, AGAIN, CATEGORY = "audience", "allowed", "again", "category"
NEVER = np.iinfo(np.int32).max
CUSTOMER_FACTS = {
    "recency_days": "days since the last purchase",
    "frequency": "baskets",
    "spend": "quantity × price over all purchases",
    "basket_value": "spend ÷ baskets",
    "tenure_days": "days since the first purchase",
    "distinct_items": "different items bought",
}
ITEM_FACTS = {
    "price": "median unit price",
    "buyers": "customers who bought it",
    "units": "units sold",
    "age_days": "days since it was first sold",
    "sold_days_ago": "days since it was last sold",
}


@dataclass(frozen=True)
class Campaign:
    """A strategy as scoring tasks need it; small, because it travels with every task.

    Attributes:
        folder: of the arrays AUDIENCE (bool [customers]), ALLOWED (bool [items]), AGAIN (int32
            [items], days after which a bought item may be given again) and CATEGORY (int32
            [items], -1 where unknown).
        most_a_category: items of one category in a list, at most.
        ladder: where items may come from.
        rest_runs: an item that a customer got in so many last runs is left out.
        given: what customers got in the last runs, 0 the newest, as the events' days; None where
            there was none.
    """

    folder: str
    most_a_category: int | None
    ladder: tuple[Rung, ...]
    rest_runs: int
    given: Blocks | None

    def read(self, name: str) -> NDArray[np.generic]:
        """Map an array."""
        return arrays.read(place_of(self.folder), name)

    @property
    def rules(self) -> Rules:
        """What a list may hold."""
        caps = None
        if self.most_a_category is not None:
            caps = Caps(np.asarray(self.read(CATEGORY), dtype=np.int32), self.most_a_category)
        return Rules(np.asarray(self.read(ALLOWED), dtype=bool), caps, self.ladder)

    def given_lately(self, number: int) -> Block | None:
        """Return what the customers of a block got in the runs that count."""
        if self.given is None or self.rest_runs == 0:
            return None
        return self.given.read(number).before(self.rest_runs)


def compiled(
    strategy: Strategy,
    retail: RetailTables | None,
    history: History,
    given: Blocks | None,
    folder: Place,
) -> Campaign:
    """Find audience and items, and write them as arrays.

    Args:
        strategy: what the campaign wants.
        retail: the newest interactions, items and customers; None will do without conditions.
        history: the same, packed.
        given: see `Campaign`.
        folder: an empty folder for the arrays.

    Raises:
        UsageError: a condition cannot be evaluated, or names a column that does not exist.
        DataError: nobody meets the audience's condition, or no item is left.
    """
    make_folder(folder)
    audience = _audience(strategy, retail, history, folder / "audience_rows")
    allowed = _allowed(strategy, retail, history, folder / "item_rows")
    category, names = read_categories(history)
    found = {
        AUDIENCE: audience,
        ALLOWED: allowed,
        AGAIN: _again(strategy.seen, category, names),
        CATEGORY: category,
    }
    for name, values in found.items():
        arrays.write(folder, name, values)
    return Campaign(
        str(folder), strategy.most_a_category, strategy.ladder, strategy.rest_runs, given
    )


def facts_explained() -> str:
    """List the columns that a strategy's conditions may use."""
    lines = []
    for table, facts in (("customers", CUSTOMER_FACTS), ("items", ITEM_FACTS)):
        lines.append(f"\nConditions on {table} may use the columns of the {table} table, and:")
        lines += [f"  {name:<16}{meaning}" for name, meaning in facts.items()]
    return "\n".join(lines)


def customer_facts(retail: RetailTables, before: int) -> DataFrame:
    """Return CUSTOMER_FACTS beside the customers' own columns, one row a customer who bought.

    Args:
        retail: the tables.
        before: day (since 1970-01-01 UTC) that recency and tenure are counted to.
    """
    day = F.unix_date(F.to_date(c.TIMESTAMP))
    bought = retail.interactions.where(F.col(c.CUSTOMER_ID).isNotNull())
    facts = bought.groupBy(c.CUSTOMER_ID).agg(
        (F.lit(before) - F.max(day)).alias("recency_days"),
        F.count_distinct(c.BASKET_ID).alias("frequency"),
        F.sum(F.col(c.QUANTITY) * F.col(c.UNIT_PRICE)).alias("spend"),
        (F.lit(before) - F.min(day)).alias("tenure_days"),
        F.count_distinct(c.ITEM_ID).alias("distinct_items"),
    )
    facts = facts.withColumn("basket_value", F.col("spend") / F.col("frequency"))
    own = [name for name in retail.customers.columns if name not in CUSTOMER_FACTS]
    return facts.join(retail.customers.select(*own), c.CUSTOMER_ID, "left")


def item_facts(retail: RetailTables, before: int) -> DataFrame:
    """Return ITEM_FACTS beside the items' own columns, one row an item; `before` as above."""
    day = F.unix_date(F.to_date(c.TIMESTAMP))
    facts = retail.interactions.groupBy(c.ITEM_ID).agg(
        F.median(c.UNIT_PRICE).alias("price"),
        F.count_distinct(c.CUSTOMER_ID).alias("buyers"),
        F.sum(c.QUANTITY).alias("units"),
        (F.lit(before) - F.min(day)).alias("age_days"),
        (F.lit(before) - F.max(day)).alias("sold_days_ago"),
    )
    own = [name for name in retail.items.columns if name not in ITEM_FACTS]
    return retail.items.select(*own).join(facts, c.ITEM_ID, "left")


def _audience(
    strategy: Strategy, retail: RetailTables | None, history: History, scratch: Place
) -> NDArray[np.bool_]:
    """Mark the customers who meet the condition, bool [customers]."""
    if strategy.audience is None:
        return np.ones(history.customers, dtype=bool)
    facts = customer_facts(_needed(retail), history.before)
    spark = facts.sparkSession
    numbers = spark.read.parquet(spark_source(f"{history.tables}/customers")).select(
        c.CUSTOMER_ID, c.CUSTOMER
    )
    chosen = facts.where(_condition(facts, strategy.audience, "audience"))
    rows = _numbers(chosen.join(numbers, c.CUSTOMER_ID).select(c.CUSTOMER), scratch, "audience")
    if len(rows) == 0:
        raise DataError(
            f"No customer meets the audience {strategy.audience!r} of {strategy.name}: "
            "widen it, or check the units (days, baskets, money)."
        )
    audience = np.zeros(history.customers, dtype=bool)
    audience[rows] = True
    return audience


def _allowed(
    strategy: Strategy, retail: RetailTables | None, history: History, scratch: Place
) -> NDArray[np.bool_]:
    """Mark the items that may be given, bool [items]."""
    rules = strategy.items
    allowed = np.ones(history.items, dtype=bool)
    if rules.model_dump(exclude={"available"}, exclude_none=True):
        facts = item_facts(_needed(retail), history.before)
        numbers = facts.sparkSession.read.parquet(spark_source(f"{history.tables}/items"))
        may = facts.where(_may(facts, rules)).select(c.ITEM_ID)
        chosen = may.join(numbers.select(c.ITEM_ID, c.ITEM), c.ITEM_ID).select(c.ITEM)
        allowed[:] = False
        allowed[_numbers(chosen, scratch, "items")] = True
    if rules.available:
        ids = read_parquet(place_of(history.tables) / "items", columns=[c.ITEM_ID])[c.ITEM_ID]
        listed = pc.is_in(ids.slice(0, history.items), value_set=_listed(rules.available))
        allowed &= listed.to_numpy()
    if not allowed.any():
        raise DataError(
            f"The rules of {strategy.name} leave no item to recommend: look at its `items`."
        )
    return allowed


def _may(facts: DataFrame, rules: ItemRules) -> Column:
    """Return the condition that an item must meet; what is not known of an item is not met."""
    may = F.lit(True)
    if rules.include is not None:
        may &= _condition(facts, rules.include, "items.include")
    if rules.exclude is not None:
        excluded = _condition(facts, rules.exclude, "items.exclude")
        may &= ~F.coalesce(excluded, F.lit(False))
    if rules.price_from is not None:
        may &= F.col("price") >= rules.price_from
    if rules.price_to is not None:
        may &= F.col("price") <= rules.price_to
    return may


def _needed(retail: RetailTables | None) -> RetailTables:
    if retail is None:
        raise ValueError("a strategy with conditions needs the retailer's tables")
    return retail


def _condition(facts: DataFrame, text: str, where: str) -> Column:
    """Return a condition; raises UsageError where it is none over these facts."""
    try:
        condition = F.expr(text)
        kind = facts.select(condition.alias("condition")).schema[0].dataType.simpleString()
    except (AnalysisException, PySparkException) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{where}: {text!r} cannot be used ({reason}); columns: {', '.join(facts.columns)}."
        ) from None
    if kind != "boolean":
        raise UsageError(f"{where}: {text!r} is no condition, it gives {kind}.")
    return condition


def _numbers(rows: DataFrame, scratch: Place, where: str) -> NDArray[np.int64]:
    """Return a column of numbers by way of a file, for no row shall pass through the driver."""
    _write(rows, scratch, where)
    column = read_parquet(scratch)[rows.columns[0]]
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _write(rows: DataFrame, scratch: Place, where: str) -> None:
    try:
        rows.write.parquet(spark_path(scratch))
    except PySparkException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{where}: a condition cannot be evaluated ({reason}).") from None


def _listed(path: str) -> pa.Array:
    """Read the item ids of an availability list.

    Raises:
        UsageError: the file is missing, or has no column item_id.
    """
    try:
        file = fetched(place_of(path))
        if file.suffix == ".csv":
            options = pa.csv.ConvertOptions(column_types={c.ITEM_ID: pa.string()})
            table = pa.csv.read_csv(file, convert_options=options)
        else:
            table = read_parquet(file)
        return table[c.ITEM_ID].combine_chunks().cast(pa.string())
    except (OSError, DataError, pa.ArrowInvalid, KeyError) as error:
        raise UsageError(
            f"items.available: {path} cannot be used ({str(error).splitlines()[0]}): give a CSV "
            f"or Parquet file with a column {c.ITEM_ID}."
        ) from None


def _again(
    seen: SeenRule | SeenByCategory, category: NDArray[np.int32], names: list[str]
) -> NDArray[np.int32]:
    """Return the days after which each item [items] may be given again; NEVER for never."""
    if not isinstance(seen, SeenByCategory):
        return np.full(len(category), _days(seen), dtype=np.int32)
    again = np.full(len(category), _days(seen.others), dtype=np.int32)
    for name, rule in seen.categories.items():
        if name not in names:
            raise UsageError(
                f"seen: there is no category {name!r} (there are {', '.join(sorted(names)[:20])})."
            )
        again[category == names.index(name)] = _days(rule)
    return again


def _days(rule: SeenRule) -> int:
    """Return the days after which an item may be given again."""
    return rule if isinstance(rule, int) else {"exclude": int(NEVER), "allow": 0}[rule]


def may_repeat(block: Block, campaign: Campaign, before: int, items: int) -> Mask:
    """Mark each bought pair [entries of `Block.matrix`] whose item may be given again.

    Args:
        block: history of some customers.
        campaign: the campaign.
        before: day that the time since a purchase is counted to.
        items: items known.
    """
    days = before - block.last_days(items)
    again = np.asarray(campaign.read(AGAIN))[_pair_columns(block, items)]
    return np.asarray(days > again)


def _pair_columns(block: Block, items: int) -> NDArray[np.int32]:
    """Return the item of each entry of the block's matrix."""
    return np.asarray(block.matrix(np.ones(len(block.columns)), items).indices, dtype=np.int32)
