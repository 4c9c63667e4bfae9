"""Column names, once, with the tables they form (docs/tables.md shows an example of each)."""

CUSTOMER_ID = "customer_id"
ITEM_ID = "item_id"
BASKET_ID = "basket_id"
TIMESTAMP = "timestamp"
QUANTITY = "quantity"
UNIT_PRICE = "unit_price"
DESCRIPTION = "description"
CATEGORY = "category"
REASONS = "reasons"

# Added by `prepare`: positions in the dataset's id maps, and days since 1970-01-01 UTC.
CUSTOMER = "customer"
ITEM = "item"
DAY = "day"
REVENUE = "revenue"
WINDOW = "window"

RANK = "rank"
SCORE = "score"
SOURCE = "source"
BECAUSE = "because"
STRATEGY = "strategy"
MODEL_NAME = "model_name"
MODEL_VERSION = "model_version"
SCORED_AT = "scored_at"
ARM = "arm"
ITEMS = "items"
SHORTFALL = "shortfall"

INTERACTIONS = (CUSTOMER_ID, ITEM_ID, BASKET_ID, TIMESTAMP, QUANTITY, UNIT_PRICE)
RECOMMENDATIONS = (
    CUSTOMER_ID, RANK, ITEM_ID, SCORE, SOURCE, BECAUSE,
    STRATEGY, MODEL_NAME, MODEL_VERSION, SCORED_AT,
)  # fmt: skip
AUDIENCE = (CUSTOMER_ID, ARM, ITEMS, SHORTFALL)
