"""What the views are: their documentation, held to their schema, and how each is opened."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deploy.sql import campaigns, customers, models, retail
from deploy.sql.flow import Flow
from recsys.config import Config
from recsys.errors import DataError, UsageError

FILE = Path(__file__).with_name("views.yaml")
OPENERS: dict[str, Callable[[SparkSession, Flow], DataFrame]] = {
    "interactions": retail.interactions,
    "items": retail.items,
    "customers": customers.customers,
    "recommendations": campaigns.recommendations,
    "recommendations_history": campaigns.recommendations_history,
    "audience": campaigns.audience,
    "campaign_results": campaigns.campaign_results,
    "model_runs": models.model_runs,
    "promotions": models.promotions,
    "quarantine": retail.quarantine,
}


class View(Config):
    """What a view means.

    Attributes:
        about: in one sentence.
        step: that makes what it reads.
        columns: name → type and meaning.
        more: whether it also has what else the retailer's source has.
    """

    about: str
    step: str
    columns: dict[str, tuple[str, str]]
    more: bool = False


@cache
def views() -> dict[str, View]:
    """Return every view's documentation, in the order in which they are shown."""
    found = yaml.safe_load(FILE.read_text("utf-8"))
    return {name: View.checked(values, f"{FILE.name}: {name}") for name, values in found.items()}


def view_named(name: str) -> View:
    """Return a view's documentation; raises UsageError for an unknown one."""
    if name not in views():
        raise UsageError(f"There is no view {name!r}: choose one of {', '.join(views())}.")
    return views()[name]


def opened(spark: SparkSession, flow: Flow, name: str) -> DataFrame:
    """Open a view: the documented columns first, each with its meaning as its comment.

    Raises:
        UsageError: there is no such view.
        DataError: what it reads is not there; the message names the step that makes it.
    """
    view = view_named(name)
    try:
        frame = OPENERS[name](spark, flow)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    known = [
        F.col(column).alias(column, metadata={"comment": meaning})
        for column, (_, meaning) in view.columns.items()
    ]
    return frame.select(*known, *(_further(frame, view) if view.more else ()))


def described(name: str) -> str:
    """Write what a view means and what its columns are."""
    view = view_named(name)
    widths = [max(map(len, column)) for column in ((*view.columns,), _types(view))]
    lines = [f"{name}: {view.about}", ""]
    lines += [
        f"  {column:<{widths[0]}}  {kind:<{widths[1]}}  {meaning}"
        for column, (kind, meaning) in view.columns.items()
    ]
    if view.more:
        lines.append("  …and whatever else the retailer's source has")
    if name == "customers":
        lines += ["", "  segment, the first rule that holds:"]
        lines += [f"  {s.name:<10}  {s.rule:<46}  {s.meaning}" for s in customers.SEGMENTS]
    return "\n".join(lines)


def listed() -> str:
    """Write each view's name and what it means."""
    width = max(map(len, views()))
    return "\n".join(f"  {name:<{width}}  {view.about}" for name, view in views().items())


def _types(view: View) -> tuple[str, ...]:
    return tuple(kind for kind, _ in view.columns.values())


def _further(frame: DataFrame, view: View) -> list[str]:
    """Return the source's own columns; Spark takes names for the same that differ in case."""
    known = {column.lower() for column in view.columns}
    return [f"`{column}`" for column in frame.columns if column.lower() not in known]
