"""Why a row is quarantined: one name a rule, once."""

from enum import StrEnum


class Reason(StrEnum):
    """A rule's name, as it stands in `quarantine/`, in ingest.json and in a mapping's limits."""

    MALFORMED_ROW = "malformed_row"
    BAD_ENCODING = "bad_encoding"
    MISSING_ITEM_ID = "missing_item_id"
    MISSING_BASKET_ID = "missing_basket_id"
    NON_PRODUCT = "non_product"
    BAD_NUMBER = "bad_number"
    ZERO_QUANTITY = "zero_quantity"
    NEGATIVE_QUANTITY = "negative_quantity"
    ABSURD_QUANTITY = "absurd_quantity"
    ZERO_OR_NEGATIVE_PRICE = "zero_or_negative_price"
    ABSURD_PRICE = "absurd_price"
    BAD_TIMESTAMP = "bad_timestamp"
    ANCIENT_TIMESTAMP = "ancient_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    DUPLICATE_ROW = "duplicate_row"
    RETURN_NETTED = "return_netted"
    UNMATCHED_RETURN = "unmatched_return"
    SALE_CANCELLED = "sale_cancelled"
