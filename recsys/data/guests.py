"""Guests: nobody knows who they are, so each of their baskets is a row behind the customers'."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.storage import Place, spark_path, spark_source

GUEST = "guest"


def write_guests(interactions: DataFrame, customers: int, path: Place) -> DataFrame:
    """Give the guests' baskets numbers by id, and read back what was written.

    Args:
        interactions: those whose guests count.
        customers: rows before the first guest's.
        path: the folder to write.

    Returns:
        basket_id, guest int (its row); one row a basket of a guest.
    """
    baskets = interactions.where(F.col(c.CUSTOMER_ID).isNull()).select(c.BASKET_ID).distinct()
    number = F.row_number().over(Window.orderBy(c.BASKET_ID)) - 1 + customers
    baskets.select(c.BASKET_ID, number.alias(GUEST)).write.parquet(spark_path(path))
    return interactions.sparkSession.read.parquet(spark_source(path))


def with_rows(interactions: DataFrame, customers: DataFrame, guests: DataFrame) -> DataFrame:
    """Add the row that an interaction belongs to: the customer's or the guest's, the other null.

    Args:
        interactions: any, all their customers in `customers`.
        customers: customer_id, customer.
        guests: see `write_guests`; a basket that it lacks has no row.
    """
    nobody = F.lit(None).cast("int")
    known = interactions.where(F.col(c.CUSTOMER_ID).isNotNull())
    strangers = interactions.where(F.col(c.CUSTOMER_ID).isNull())
    return (
        known.join(customers.select(c.CUSTOMER_ID, c.CUSTOMER), c.CUSTOMER_ID)
        .withColumn(GUEST, nobody)
        .unionByName(strangers.join(guests, c.BASKET_ID, "left").withColumn(c.CUSTOMER, nobody))
    )
