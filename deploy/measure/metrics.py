"""What is measured of a campaign, and how it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.measure import outcomes as o
from recsys.effects.effect import Effect, cuped_effect, proportion_effect, ratio_effect

Column = Callable[[str], NDArray[Any]]
Better = Literal["more", "less"]
# Fewer customers in an arm give no interval that holds, and for money, orders and items fewer who
# ordered: those who did not add nothing to a sum that is too skewed and too short to be normal.
SMALLEST_ARM = 20
PRIMARY = "sales_per_customer"
BOUGHT = "bought"
CHURN = "churn"


@dataclass(frozen=True)
class Metric:
    """One question to the data.

    Attributes:
        name: in the results.
        title: for people.
        meaning: what it is, in a sentence.
        better: which direction is welcome.
        is_share: a share of customers, shown in percent.
        counts: marks the customers who count, bool [customers]; `estimate` gets only these.
        weighs: marks those of them who make the number, bool [customers].
        estimate: (columns, treated bool [customers]) → the difference of the arms.
    """

    name: str
    title: str
    meaning: str
    better: Better
    is_share: bool
    counts: Callable[[Column], NDArray[np.bool_]]
    weighs: Callable[[Column], NDArray[np.bool_]]
    estimate: Callable[[Column, NDArray[np.bool_]], Effect]


def _everyone(of: Column) -> NDArray[np.bool_]:
    return np.ones(len(of(o.TREATED)), dtype=bool)


def _ordered(of: Column) -> NDArray[np.bool_]:
    return np.asarray(of(o.ORDERS) > 0)


def _active(of: Column) -> NDArray[np.bool_]:
    return np.asarray(of(o.ACTIVE), dtype=bool)


def _mean(name: str, title: str, meaning: str, measure: str) -> Metric:
    """Ask for a mean over customers, less what the time before explains."""

    def estimate(of: Column, treated: NDArray[np.bool_]) -> Effect:
        return cuped_effect(of(measure), of(o.before(measure)), treated)

    return Metric(name, title, meaning, "more", False, _everyone, _ordered, estimate)


def _ratio(name: str, title: str, meaning: str, top: str, bottom: str) -> Metric:
    """Ask for a ratio of two sums over all customers."""

    def estimate(of: Column, treated: NDArray[np.bool_]) -> Effect:
        return ratio_effect(of(top), of(bottom), treated)

    return Metric(name, title, meaning, "more", False, _everyone, _ordered, estimate)


METRICS: tuple[Metric, ...] = (
    _mean(
        PRIMARY,
        "Sales per customer",
        "Money spent in the window, over all customers of the arm, also who bought nothing.",
        o.SALES,
    ),
    _mean(
        "orders_per_customer",
        "Orders per customer",
        "Baskets in the window, over all customers of the arm.",
        o.ORDERS,
    ),
    _ratio(
        "basket_value",
        "Basket value",
        "Money spent per order.",
        o.SALES,
        o.ORDERS,
    ),
    _ratio(
        "basket_size",
        "Basket size",
        "Units per order.",
        o.UNITS,
        o.ORDERS,
    ),
    _mean(
        "items_per_customer",
        "Different items per customer",
        "Different items bought in the window, over all customers of the arm.",
        o.ITEMS,
    ),
    Metric(
        BOUGHT,
        "Customers who bought",
        "Share of the customers who ordered at all in the window (conversion).",
        "more",
        True,
        _everyone,
        _everyone,
        lambda of, treated: proportion_effect(_ordered(of), treated),
    ),
    Metric(
        CHURN,
        "Churn",
        "Of the customers who had ordered shortly before the campaign, the share who did not order "
        "in the window.",
        "less",
        True,
        _active,
        _everyone,
        lambda of, treated: proportion_effect(~_ordered(of), treated),
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
# Known of the treated alone: the control arm has no list, so these are no effects.
DESCRIBED = {
    "bought_recommended": (
        "Bought something recommended",
        "Share of the treated who bought an item of their list, from the day it was in it.",
        o.BOUGHT_RECOMMENDED,
    ),
    "recommended_sales_per_customer": (
        "Sales of recommended items",
        "Money that the treated spent on items of their list, per customer.",
        o.RECOMMENDED_SALES,
    ),
}
