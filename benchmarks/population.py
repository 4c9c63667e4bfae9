"""Simulated customers of whom it is known what they do with a campaign and without."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data.aftermath import aftermath
from recsys.data.market import Ints, Market
from recsys.data.purchases import DAY, Purchases
from recsys.data.response import Lists, Span, Treatment
from recsys.data.simulate import SimulateConfig, trade
from recsys.data.till import Till
from recsys.effects.effect import Flags, Values

SEED = 1
AFTER_DAYS, BEFORE_DAYS = 28, 84
EFFECT, BASKET_EFFECT, CHURN, CHURN_EFFECT = 0.1, 0.05, 0.1, 0.3
LIST = 10


@dataclass(frozen=True)
class Population:
    """Customers of whom both outcomes are known, and what they did before.

    Attributes:
        treated: quantity → float64 [customers], with the campaign.
        control: quantity → float64 [customers], without.
        before: quantity → float64 [customers], in the weeks before.
    """

    treated: dict[str, Values]
    control: dict[str, Values]
    before: dict[str, Values]

    def drawn(
        self, customers: NDArray[np.int64], treated: Flags, is_null: bool
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """Return what an experiment sees of its customers: outcomes, and what they did before."""
        outcome = {
            name: values[customers]
            if is_null
            else np.where(treated, self.treated[name][customers], values[customers])
            for name, values in self.control.items()
        }
        return outcome, {name: values[customers] for name, values in self.before.items()}


def population(customers: int, seed: int = SEED) -> Population:
    """Let a retailer go on once with everybody treated; without is known of each row."""
    config = SimulateConfig(output="", customers=customers, seed=seed)
    market, purchases = trade(config)
    span = Span(config.days, AFTER_DAYS, config.start.timetuple().tm_yday)
    seeds = np.random.SeedSequence(seed, spawn_key=(5,)).spawn(3)
    who = np.repeat(np.arange(customers), LIST)
    shown = np.random.default_rng(seeds[0]).integers(0, config.items, len(who))
    lists = Lists.of(who, shown, customers)
    campaign = Treatment(
        np.ones(customers, dtype=bool), lists, EFFECT, BASKET_EFFECT, CHURN_EFFECT, 0.5
    )
    after = aftermath(config, market, purchases, span, CHURN, campaign, seeds[1])
    till = Till(market, after.purchases, config.start, np.random.default_rng(seeds[2]))
    totals = {n: v[:customers] for n, v in after.totals(market.pence, till.promoted).items()}
    sales = after.sales
    was_shown = np.isin(sales.customer * config.items + sales.item, who * config.items + shown)
    for name, units in (("converted", sales.units), ("converted_without", sales.without)):
        rows = was_shown & (units > 0) & (sales.customer >= 0)
        totals[name] = _summed(sales.customer[rows], np.ones(rows.sum()), customers)
    names = ("orders", "sales", "converted")
    return Population(
        {name: totals[name] for name in names},
        {name: totals[f"{name}_without"] for name in names},
        _before(market, purchases, config),
    )


def _before(market: Market, purchases: Purchases, config: SimulateConfig) -> dict[str, Values]:
    """Return each customer's sales and orders in the weeks before."""
    recent = (purchases.customer >= 0) & (purchases.time >= (config.days - BEFORE_DAYS) * DAY)
    spent = purchases.quantity * market.pence[purchases.item] / 100
    sold = recent & (purchases.quantity > 0)
    first = np.unique(purchases.basket[sold], return_index=True)[1]
    return {
        "sales": _summed(purchases.customer[recent], spent[recent], config.customers),
        "orders": _summed(purchases.customer[sold][first], np.ones(len(first)), config.customers),
    }


def _summed(who: Ints, amounts: Values, customers: int) -> Values:
    """Sum amounts by customer; the population's come first."""
    return np.asarray(np.bincount(who, amounts, customers)[:customers], dtype=np.float64)
