"""The rules that judge raw rows: Spark expressions that give every row its reasons.

    read_rows ─▶ normalise ─▶ judge_rows ─▶ refuse_guest_returns ─┬──────────▶ merge ─▶ judged
                                                                  └▶ settle ────┘

Judged rows hold the source as it was read, the typed columns of an interaction, and `reasons`;
a row without reasons is accepted. No step drops or adds a row.
"""

from datetime import UTC, datetime, time, timedelta
from typing import cast

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.mapping import Binding, Mapping
from recsys.data.reasons import Reason
from recsys.data.source import FILE, LINE, SOURCE

IS_RETURN, KEY, TEXTS, NETTED = "is_return", "key", "texts", "netted"
ODD, BROKEN = "odd", "broken"
# What a shop's till or a spreadsheet leaves around a value.
BLANKS = " \t\r\n\u00a0\u2003\u3000\ufeff"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"
# Control characters other than tab and line ends, and what a failed decoding leaves behind.
BROKEN_CHARACTERS = "[\\x00-\\x08\\x0B\\x0C\\x0E-\\x1F\\x7F\ufffd\ufffe]"


def normalise(rows: DataFrame, binding: Binding, mapping: Mapping) -> DataFrame:
    """Give each row its trimmed, NFC texts and the typed columns of an interaction.

    `key` is equal for rows whose normalised source columns are all equal; `broken` tells of
    characters that no text should have.
    """
    text = {meaning: F.col(TEXTS)[name] for meaning, name in binding.items()}
    texts = _texts(rows, binding, mapping)
    quantity = _number(text[c.QUANTITY])
    is_return = _is_return(text[c.BASKET_ID], quantity, mapping)
    whole = [F.coalesce(F.col(TEXTS)[name], F.lit("")) for name in _fields(rows)]
    described = [*item_columns(mapping), *mapping.customer_columns]
    return texts.select(
        SOURCE,
        LINE,
        FILE,
        BROKEN,
        F.xxhash64(F.concat_ws("\u0001", LINE, *whole)).alias(KEY),
        *[text[name].alias(name) for name in (c.CUSTOMER_ID, c.ITEM_ID, c.BASKET_ID)],
        _timestamp(text[c.TIMESTAMP], mapping).alias(c.TIMESTAMP),
        quantity.alias(c.QUANTITY),
        _number(text[c.UNIT_PRICE]).alias(c.UNIT_PRICE),
        F.coalesce(is_return, F.lit(False)).alias(IS_RETURN),
        *[text.get(name, F.lit(None).cast("string")).alias(name) for name in described],
    )


def _texts(rows: DataFrame, binding: Binding, mapping: Mapping) -> DataFrame:
    """Add `texts`, the normalised source columns (all null in a malformed row), and `broken`."""
    names = _fields(rows)
    joined = F.concat_ws(" ", *[F.col(SOURCE)[name] for name in names])
    # Nearly all rows are plain: one look spares them the costly steps.
    odd = joined.rlike("[^ -~]")

    def known(name: str) -> Column:
        text = _clean(F.col(SOURCE)[name])
        given = F.when(F.col(LINE).isNull() & ~text.isin("", *mapping.null_values), text)
        if name == binding[c.CUSTOMER_ID]:
            return F.regexp_replace(given, r"^(\d+)\.0+$", "$1")
        if name == binding[c.ITEM_ID] and mapping.upper_case_item_ids:
            return F.upper(given)
        return given

    return rows.select(SOURCE, LINE, FILE, odd.alias(ODD)).select(
        SOURCE,
        LINE,
        FILE,
        F.when(F.col(ODD), joined.rlike(BROKEN_CHARACTERS)).otherwise(False).alias(BROKEN),
        F.struct(*[known(name).alias(name) for name in names]).alias(TEXTS),
    )


def item_columns(mapping: Mapping) -> list[str]:
    """Names of the items table's columns besides item_id."""
    return [c.DESCRIPTION, c.CATEGORY, *mapping.item_columns]


def judge_rows(rows: DataFrame, mapping: Mapping, now: datetime) -> DataFrame:
    """Add `reasons`: the rules that look at one row alone."""
    item, quantity, price = F.col(c.ITEM_ID), F.col(c.QUANTITY), F.col(c.UNIT_PRICE)
    timestamp = F.col(c.TIMESTAMP)
    end = now
    if mapping.latest:
        end = datetime.combine(mapping.latest + timedelta(days=1), time(), UTC)
    start = datetime.combine(mapping.earliest, time(), UTC)
    non_product = item.isin(*mapping.non_product_ids)
    if mapping.non_product_pattern:
        non_product |= item.rlike(mapping.non_product_pattern)
    whole = F.col(LINE).isNull()
    # In a malformed row all is null, which no comparison holds for.
    rules = {
        Reason.MALFORMED_ROW: ~whole,
        Reason.BAD_ENCODING: whole & F.col(BROKEN),
        Reason.MISSING_ITEM_ID: whole & item.isNull(),
        Reason.MISSING_BASKET_ID: whole & F.col(c.BASKET_ID).isNull(),
        Reason.NON_PRODUCT: non_product,
        Reason.BAD_NUMBER: whole & (quantity.isNull() | price.isNull()),
        Reason.ZERO_QUANTITY: quantity == 0,
        Reason.NEGATIVE_QUANTITY: (quantity < 0) & ~F.col(IS_RETURN),
        Reason.ABSURD_QUANTITY: F.abs(quantity) > mapping.max_quantity,
        Reason.ZERO_OR_NEGATIVE_PRICE: price <= 0,
        Reason.ABSURD_PRICE: price > mapping.max_unit_price,
        Reason.BAD_TIMESTAMP: whole & timestamp.isNull(),
        Reason.ANCIENT_TIMESTAMP: timestamp < F.lit(start),
        Reason.FUTURE_TIMESTAMP: timestamp >= F.lit(end),
    }
    return rows.select("*", _reasons(rules).alias(c.REASONS))


def settle(rows: DataFrame) -> DataFrame:
    """Judge what takes a look at other rows: duplicates, and returns against their sales.

    Returns only the rows that have a twin, or whose customer returned the item: so few that
    their keys travel to the rows, and not the rows to each other. `merge` puts them back.
    """
    twin = rows.groupBy(KEY).agg(F.count("*").alias("n")).where("n > 1").select(KEY, _yes("twin"))
    returned = rows.where((F.size(c.REASONS) == 0) & F.col(IS_RETURN))
    returned = returned.select(c.CUSTOMER_ID, c.ITEM_ID, _yes("returned")).distinct()
    concerned = (
        rows.join(F.broadcast(twin), KEY, "left")
        .join(F.broadcast(returned), [c.CUSTOMER_ID, c.ITEM_ID], "left")
        .where(F.col("twin").isNotNull() | F.col("returned").isNotNull())
        .select(rows.columns)
    )
    return net_returns(judge_duplicates(concerned))


def merge(rows: DataFrame, settled: DataFrame) -> DataFrame:
    """Put settled rows in the place of their former selves; rows with one key settle together."""
    keys = F.broadcast(settled.select(KEY).distinct())
    others = rows.join(keys, KEY, "left_anti").withColumn(NETTED, F.lit(0.0))
    return others.unionByName(settled)


def refuse_guest_returns(rows: DataFrame) -> DataFrame:
    """Add the reason of a return that cannot be matched because nobody knows whose it is."""
    sound = F.size(c.REASONS) == 0
    guest = sound & F.col(IS_RETURN) & F.col(c.CUSTOMER_ID).isNull()
    others = [name for name in rows.columns if name != c.REASONS]
    unmatched = F.concat(c.REASONS, _reasons({Reason.UNMATCHED_RETURN: guest}))
    return rows.select(*others, unmatched.alias(c.REASONS))


def judge_duplicates(rows: DataFrame) -> DataFrame:
    """Add the reason of identical source rows to all but the first of them."""
    place = F.row_number().over(
        Window.partitionBy(c.CUSTOMER_ID, c.ITEM_ID, c.BASKET_ID, KEY).orderBy(SOURCE)
    )
    repeated = (place > 1) & F.col(LINE).isNull()
    reasons = F.when(repeated, F.concat(c.REASONS, _reasons({Reason.DUPLICATE_ROW: repeated})))
    return rows.withColumn(c.REASONS, reasons.otherwise(F.col(c.REASONS)))


def net_returns(rows: DataFrame) -> DataFrame:
    """Take returns back from the customer's latest earlier sales of the same item.

    Sales of one customer and item lie on a stack: a sale puts its units on top, a return takes
    units from the top, and what a return asks for beyond the stack's height stays unmatched.

        height  ▲        ┌──┐ return 2        what is left of a sale is the lowest
                │     ┌──┘  └──┐              height from it onwards, less the height
                │ ┌───┘ sale 2 └── …          before it
                └─┴sale 1─────────▶ time

    So two running minima say what is left of every sale. The return's row is quarantined as
    `return_netted`, as `unmatched_return` where nothing could be taken (as both where not all);
    a sale of which nothing is left as `sale_cancelled`; of other sales the quantity becomes what
    is left. At one instant sales come before returns.
    """
    usable, is_return, units = F.col("usable"), F.col(IS_RETURN), F.abs(c.QUANTITY)
    signed = F.when(usable, F.when(is_return, -units).otherwise(units)).otherwise(0.0)
    # Rows that take no part get a group of their own, which keeps the groups small.
    group = F.when(usable, F.lit(0)).otherwise(F.col(KEY))
    order = (c.TIMESTAMP, IS_RETURN, c.BASKET_ID, KEY, SOURCE)
    stack = Window.partitionBy(c.CUSTOMER_ID, c.ITEM_ID, "group")
    forward = stack.orderBy(*order)
    running = (Window.unboundedPreceding, Window.currentRow)
    # The minimum from here to the end, as a running one from the end: linear in the group's size.
    backward = stack.orderBy(*[F.desc(name) for name in order])
    heights = (
        rows.withColumn("usable", (F.size(c.REASONS) == 0) & F.col(c.CUSTOMER_ID).isNotNull())
        .withColumns({"group": group, "signed": signed})
        .withColumn("sum", F.round(F.sum("signed").over(forward.rowsBetween(*running)), 6))
        .withColumn("floor", F.min("sum").over(forward.rowsBetween(*running)))
        .withColumn("height", F.col("sum") - F.least(F.lit(0.0), F.col("floor")))
        .withColumn("before", F.lag("height", 1, 0.0).over(forward))
        .withColumn("lowest", F.min("height").over(backward.rowsBetween(*running)))
    )
    left = F.round(F.greatest(F.lit(0.0), F.col("lowest") - F.col("before")), 6)
    taken = F.round(F.col("before") - F.col("height"), 6)
    sale, back = usable & ~is_return, usable & is_return
    rules = {
        Reason.RETURN_NETTED: back & (taken > 0),
        Reason.UNMATCHED_RETURN: back & (taken < units),
        Reason.SALE_CANCELLED: sale & (left == 0),
    }
    kept = [name for name in rows.columns if name not in (c.QUANTITY, c.REASONS)]
    return heights.select(
        *kept,
        F.when(sale, left).otherwise(F.col(c.QUANTITY)).alias(c.QUANTITY),
        F.concat(c.REASONS, _reasons(rules)).alias(c.REASONS),
        F.when(back, taken).otherwise(0.0).alias(NETTED),
    )


def _reasons(rules: dict[Reason, Column]) -> Column:
    """Name the rules that are true of a row."""
    return F.array_compact(F.array(*[F.when(rule, F.lit(str(r))) for r, rule in rules.items()]))


def _yes(name: str) -> Column:
    return F.lit(True).alias(name)


def _clean(text: Column) -> Column:
    """Trim, and bring to Unicode's form NFC."""
    bare = F.btrim(text, F.lit(BLANKS))
    # Spark has no NFC of its own; ICU, which it brings along for collations, has.
    composed = F.reflect(F.lit("com.ibm.icu.text.Normalizer"), F.lit("compose"), bare, F.lit(False))
    return F.when(F.col(ODD) & text.isNotNull(), composed).otherwise(F.trim(text))


def _number(text: Column) -> Column:
    """Read a number; null where it is none."""
    return F.when(text.rlike(NUMBER), text.try_cast("double"))


def _timestamp(text: Column, mapping: Mapping) -> Column:
    """Read an instant: with an offset of its own, else by the shop's clock."""
    formats = [F.try_to_timestamp(text, F.lit(form)) for form in mapping.timestamp_formats]
    local = F.to_utc_timestamp(F.coalesce(*formats), mapping.time_zone)
    return F.when(text.rlike(OFFSET), text.try_cast("timestamp")).otherwise(local)


def _is_return(basket: Column, quantity: Column, mapping: Mapping) -> Column:
    """Tell whether a row takes back an earlier sale."""
    result = F.lit(False)
    if mapping.negative_quantity_is_return:
        result |= quantity < 0
    if mapping.cancellation:
        result |= basket.rlike(mapping.cancellation)
    return result


def _fields(rows: DataFrame) -> list[str]:
    """Name the source's columns."""
    return cast(list[str], rows.schema[SOURCE].dataType.fieldNames())  # type: ignore[attr-defined]
