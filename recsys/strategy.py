"""What a campaign may recommend to whom, as a YAML file; `explained` says it in words."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recsys.config import Config
from recsys.errors import UsageError
from recsys.session import ROOT
from recsys.storage import is_remote, place_of, read_file

Seen = Literal["exclude", "allow"]
# `exclude`, `allow`, or the days for which a bought item is excluded.
SeenRule = Seen | Annotated[int, Field(ge=1)]
Rung = Literal["model", "fold_in", "segment_popularity", "popularity"]
STRATEGIES = ROOT / "deploy" / "strategies"
LADDER: tuple[Rung, ...] = ("model", "fold_in", "segment_popularity", "popularity")


class SeenByCategory(Config):
    """What to do with bought items, by their category."""

    others: SeenRule = Field("exclude", description="rule for all other categories")
    categories: dict[str, SeenRule] = Field(description="category → rule")


class ItemRules(Config):
    """Which items may be recommended; all conditions must hold."""

    include: str | None = Field(None, description="Spark SQL condition over items; none: all")
    exclude: str | None = Field(None, description="Spark SQL condition; items that meet it may not")
    available: str | None = Field(
        None, description="file (CSV, Parquet) with a column item_id: only these may"
    )
    price_from: float | None = Field(None, ge=0, description="lowest price, the items' median")
    price_to: float | None = Field(None, ge=0, description="highest price")


class HoldOut(Config):
    """Customers who are left alone, so that the campaign's effect can be measured."""

    share: float = Field(0.0, ge=0, lt=1, description="share of the audience")
    salt: str = Field("", description="another salt draws other customers")


class Strategy(Config):
    """One marketing strategy, written as a YAML file."""

    name: str = Field(pattern=r"^[\w.-]+$", description="the strategy's name, written in every row")
    description: str = Field("", description="what it is for, in a sentence")
    audience: str | None = Field(
        None, description="Spark SQL condition over customers; none: every customer"
    )
    items: ItemRules = Field(ItemRules(), description="which items may be recommended")
    seen: SeenRule | SeenByCategory = Field(
        "exclude",
        description="items that the customer has bought: exclude, allow, days, or by category",
    )
    k: int = Field(10, ge=1, description="recommendations a customer")
    most_a_category: int | None = Field(None, ge=1, description="at most so many of one category")
    rest_runs: int = Field(
        0, ge=0, description="an item that a customer got in so many last runs is left out"
    )
    segment: str | None = Field(
        None, description="column of the customers table whose popularity fills short lists first"
    )
    ladder: tuple[Rung, ...] = Field(
        LADDER, min_length=1, description="where items may come from, the first that has any"
    )
    hold_out: HoldOut = Field(HoldOut(), description="customers who get nothing")
    because: int = Field(
        3, ge=0, le=10, description="bought items that are named as a recommendation's reason"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """Refuse a ladder whose rungs are in another order than they are tried in."""
        if list(self.ladder) != [rung for rung in LADDER if rung in self.ladder]:
            raise ValueError(f"list the ladder's rungs once and in the order {', '.join(LADDER)}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all that the strategy says."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load_strategy(name: str, folder: Path = STRATEGIES) -> Strategy:
    """Read a strategy by its name in `folder`, or by the path of a YAML file.

    A relative path in `items.available` counts from the file's folder.

    Raises:
        UsageError: there is no such strategy, or it holds an unknown key or a wrong value.
    """
    place = folder / f"{name}.yaml" if not name.endswith((".yaml", ".yml")) else place_of(name)
    data = read_file(place)
    if data is None:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise UsageError(f"There is no strategy {name!r}: use {known}, or a path to a YAML file.")
    strategy = Strategy.from_yaml(data.decode(), str(place))
    if strategy.items.available is None:
        return strategy
    available = strategy.items.available
    absolute = is_remote(available) or Path(available).is_absolute()
    listed = available if absolute else str(place.parent / available)
    return strategy.model_copy(
        update={"items": strategy.items.model_copy(update={"available": listed})}
    )


def explained(strategy: Strategy) -> str:
    """Say in words, a line each, what a strategy does."""
    items, hold_out = strategy.items, strategy.hold_out
    seen = strategy.seen
    if isinstance(seen, SeenByCategory):
        by_category = [f"{name}: {_seen(rule)}" for name, rule in seen.categories.items()]
        seen_text = "; ".join([*by_category, f"other categories: {_seen(seen.others)}"])
    else:
        seen_text = _seen(seen)
    allowed = [
        f"where {items.include}" if items.include else "",
        f"not where {items.exclude}" if items.exclude else "",
        f"from {items.price_from:g}" if items.price_from is not None else "",
        f"up to {items.price_to:g}" if items.price_to is not None else "",
        f"listed in {items.available}" if items.available else "",
    ]
    lines = {
        "strategy": f"{strategy.name}: {strategy.description}".rstrip(": "),
        "to whom": f"customers where {strategy.audience}" if strategy.audience else "everyone",
        "held out": f"{hold_out.share:.0%} of them, drawn by their id and the salt "
        f"{hold_out.salt!r}; they get nothing"
        if hold_out.share
        else "nobody, so the campaign's effect cannot be measured",
        "what": f"{strategy.k} items a customer"
        + (f", at most {strategy.most_a_category} of a category" * bool(strategy.most_a_category)),
        "which items": ", ".join(filter(None, allowed)) or "all that the model knows",
        "bought before": seen_text,
        "given lately": f"not again within {strategy.rest_runs} runs of this strategy"
        if strategy.rest_runs
        else "may be given again",
        "chosen by": " → ".join(strategy.ladder)
        + (f" (segment: {strategy.segment})" if strategy.segment else ""),
        "reasons": f"up to {strategy.because} bought items each" if strategy.because else "none",
    }
    return "\n".join(f"{name + ':':<15}{text}" for name, text in lines.items())


def _seen(rule: SeenRule) -> str:
    """Say what one rule on bought items means."""
    if isinstance(rule, int):
        return f"left out for {rule} days after the last purchase"
    return {"exclude": "left out", "allow": "may be given again"}[rule]
