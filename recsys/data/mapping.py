"""How one retailer's export reads: which column means what, and which rows cannot be used.

A mapping is a YAML file; the presets lie in `mappings/` beside this module. Where a source column
is given as a list, the first name that the source has is taken, so that one mapping can serve
several years of an export whose headings were renamed.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator

from recsys.config import Config
from recsys.data.reasons import Reason
from recsys.errors import DataError, UsageError
from recsys.storage import place_of, read_file

PRESETS = Path(__file__).resolve().parent / "mappings"


def _as_list(value: object) -> object:
    """Let a single column name stand where a list of alternatives may."""
    return (value,) if isinstance(value, str) else value


# Meaning (customer_id, quantity, …) → the source's column.
Binding = dict[str, str]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Share = Annotated[float, Field(ge=0, le=1)]


class Mapping(Config):
    """What the columns and values of a source mean; ids are trimmed text throughout."""

    version: int = Field(ge=1, description="raised whenever a rule or the deny-list changes")

    customer_id: Names = Field(description="empty where unknown; `17850.0` is read as `17850`")
    item_id: Names
    basket_id: Names
    timestamp: Names
    quantity: Names
    unit_price: Names
    description: Names = ()
    category: Names = ()
    item_columns: tuple[str, ...] = Field((), description="further columns of the items table")
    customer_columns: tuple[str, ...] = Field(
        (), description="columns of the customers table, such as a country or a region"
    )

    separator: str = Field(",", min_length=1, max_length=1)
    encoding: str = "UTF-8"
    null_values: tuple[str, ...] = ("NULL", "null", "NaN", "nan", "None")
    timestamp_formats: tuple[str, ...] = Field(
        ("yyyy-MM-dd HH:mm:ss",), min_length=1, description="Spark patterns, tried in turn"
    )
    time_zone: str = Field("UTC", description="of timestamps that carry no offset of their own")
    upper_case_item_ids: bool = False

    cancellation: str | None = Field(None, description="regular expression on basket ids")
    negative_quantity_is_return: bool = True
    non_product_ids: tuple[str, ...] = Field((), description="deny-list of item ids")
    non_product_pattern: str | None = Field(None, description="regular expression on item ids")
    max_quantity: float = Field(10_000, gt=0, description="units in one row")
    max_unit_price: float = Field(10_000, gt=0, description="in the source's currency")
    earliest: date = date(2000, 1, 1)
    latest: date | None = Field(None, description="last day that counts as past; none: now")
    stale_after_days: int | None = Field(None, gt=0)
    heavy_customer_rows: int = Field(
        1_000, gt=0, description="a customer with more rows counts as wholesaler or bot"
    )

    warn_share: Share = 0.01
    fail_share: Share = 0.05
    fail_share_of: dict[Reason, Share] = Field({}, description="reason → limit of its own")

    @field_validator("cancellation", "non_product_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"it is not a regular expression ({error})") from None
        return pattern

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("it is not a time zone such as Europe/London") from None
        return name

    @property
    def digest(self) -> str:
        """SHA-256 over all keys, defaults included."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def limit(self, reason: Reason) -> float:
        """Return the share of rows above which `reason` stops the ingest."""
        return self.fail_share_of.get(reason, self.fail_share)

    def bind(self, present: Sequence[str], source: str) -> Binding:
        """Find each meaning's column in a source.

        Args:
            present: the source's columns.
            source: what to call the source in the message.

        Raises:
            DataError: a column is missing; names it and the ones that are there.
        """
        wanted = {
            "customer_id": self.customer_id, "item_id": self.item_id, "basket_id": self.basket_id,
            "timestamp": self.timestamp, "quantity": self.quantity, "unit_price": self.unit_price,
            "description": self.description, "category": self.category,
            **{name: (name,) for name in (*self.item_columns, *self.customer_columns)},
        }  # fmt: skip
        found = {m: next((n for n in names if n in present), None) for m, names in wanted.items()}
        missing = [" or ".join(wanted[m]) for m, n in found.items() if n is None and wanted[m]]
        if missing:
            raise DataError(
                f"{source} has no column {', '.join(missing)} (it has {', '.join(present)}): "
                "choose the mapping that fits this source, or write one of your own."
            )
        return {meaning: name for meaning, name in found.items() if name is not None}

    @classmethod
    def load(cls, name: str) -> Self:
        """Read a preset by name, or a YAML file by path.

        Raises:
            UsageError: no such preset or file, or a wrong key in it.
        """
        preset = PRESETS / f"{name}.yaml"
        place = preset if name in presets() else place_of(name)
        try:
            data = read_file(place)
            if data is None:
                raise DataError(f"There is no {place}.")
            text = data.decode()
        except (DataError, UnicodeDecodeError):
            raise UsageError(
                f"there is no mapping {name!r}: give one of {', '.join(presets())}, "
                "or the path of a YAML file."
            ) from None
        return cls.from_yaml(text, f"mapping {name}")


def presets() -> list[str]:
    """Names of the mappings that come with the library."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))
