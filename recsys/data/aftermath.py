"""The days after a campaign at the till: sales, returns, and what would have been without it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from recsys.data.market import STORES, Flags, Floats, Ints, Market
from recsys.data.purchases import BASE_SHARE, DAY, LINES_PER_BASKET, Purchases, busyness
from recsys.data.response import Lists, Response, Span, Treatment, respond
from recsys.data.simulate import SimulateConfig
from recsys.data.till import PROMOTION

# As `make_market` draws them.
ARRIVE_LATE, TASTE_SPREAD, ACTIVITY_SPREAD = 0.4, 0.15, 0.9


@dataclass(frozen=True)
class Aftermath:
    """What happened, and what would have.

    Attributes:
        purchases: rows of the till.
        sales: the rows among them that sell, in an order of their own.
        returned: (sales,) units that were taken back.
        rates: (customers,) orders expected of each who does not stop, without the campaign.
    """

    purchases: Purchases
    sales: Response
    returned: Ints
    rates: Floats

    def totals(self, pence: Ints, promoted: Flags) -> dict[str, Floats]:
        """Return each customer's orders and money spent, with the campaign and without.

        What was taken back counts as never sold, and an order of which nothing is left as none.

        Args:
            pence: (items,) price.
            promoted: (weeks, items) when an item is cheaper.

        Returns:
            name → float64 [customers].
        """
        sales = self.sales
        cheaper = promoted[sales.time // (7 * DAY), sales.item]
        price = np.rint(pence[sales.item] * np.where(cheaper, PROMOTION, 1.0)) / 100
        known, customers = sales.customer >= 0, len(self.rates)
        found = {}
        for name, units in (("", sales.units), ("_without", sales.without)):
            kept = known & (units > self.returned)
            spent = (price * (units - self.returned))[kept]
            who = sales.customer[kept]
            _, first = np.unique(sales.basket[kept], return_index=True)
            found[f"orders{name}"] = np.bincount(who[first], minlength=customers).astype(float)
            found[f"sales{name}"] = np.bincount(who, spent, minlength=customers)
        return found


def aftermath(
    earlier: SimulateConfig,
    market: Market,
    purchases: Purchases,
    span: Span,
    churn: float,
    treatment: Treatment,
    seed: np.random.SeedSequence,
) -> Aftermath:
    """Draw the days after a campaign.

    Args:
        earlier: what the market was drawn by.
        market: of the days before.
        purchases: of the days before.
        span: the days after.
        churn: share of customers who stop in these days.
        treatment: what the campaign did.
        seed: of the draws.
    """
    draw_new, draw_response, draw_returns = seed.spawn(3)
    rates = _rates(earlier, market, span)
    used_up = (purchases.customer >= 0) & (purchases.quantity > 0)
    used_up &= market.rebuy_days[purchases.item] > 0
    lists = Lists.of(purchases.customer[used_up], purchases.item[used_up], len(rates))
    joined, rates = _with_newcomers(market, rates, span, np.random.default_rng(draw_new))
    newcomers = np.zeros(len(rates) - len(treatment.treated), dtype=bool)
    treatment = replace(treatment, treated=np.append(treatment.treated, newcomers))
    sales = respond(
        joined, span, rates, churn, earlier.guest_share, lists, treatment, draw_response
    )
    items = len(market.launch)
    known = np.unique(purchases.customer * items + purchases.item)
    returned, late = _returns(
        sales, known, items, earlier.return_share, span, np.random.default_rng(draw_returns)
    )
    at_till = _at_till(sales, returned, late, int(purchases.basket.max()))
    return Aftermath(at_till, sales, returned, rates)


def _rates(earlier: SimulateConfig, market: Market, span: Span) -> Floats:
    """Return the orders expected of each customer in the span, as before; 0 of who has left."""
    there = market.departure - market.arrival + 1
    wanted = earlier.customers * earlier.rows_per_customer * BASE_SHARE / LINES_PER_BASKET
    a_day = market.activity * wanted * (1 - earlier.guest_share)
    a_day /= float((market.activity * there).sum())
    busy = span.busy.sum() / busyness(span.first, span.first_day_of_year).mean()
    # Those whose last possible day is the last one of all have not left.
    return np.where(market.departure < span.first - 1, 0.0, a_day * busy)


def _with_newcomers(
    market: Market, rates: Floats, span: Span, rng: np.random.Generator
) -> tuple[Market, Floats]:
    """Add customers who arrive in the span, as often as before."""
    count = rng.poisson(ARRIVE_LATE * len(rates) * span.days / span.first)
    activity = rng.lognormal(0, ACTIVITY_SPREAD, count)
    tastes = rng.dirichlet(np.full(market.tastes.shape[1], TASTE_SPREAD), count)
    usual = float(rates.sum() / market.activity[rates > 0].sum()) if rates.any() else 0.0
    arrival = span.first + rng.integers(0, span.days, count)
    last = np.full(count, span.first + span.days - 1)
    joined = replace(
        market,
        tastes=np.concatenate([market.tastes, tastes]),
        arrival=np.append(market.arrival, arrival),
        departure=np.append(market.departure, last),
        activity=np.append(market.activity, activity),
        store=np.append(market.store, rng.integers(0, STORES, count)),
    )
    return joined, np.append(rates, usual * activity)


def _returns(
    sales: Response,
    known: Ints,
    items: int,
    share: float,
    span: Span,
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Draw units that are taken back, and when.

    Only of sales that happen without the campaign too, so both cases lose the same; and only of
    items that a customer bought once ever, so that it is certain which sale a return belongs to.

    Args:
        sales: of the span.
        known: sorted customer × items + item of all that was bought before.
        items: how many there are.
        share: of the rows.
        span: the days.
        rng: of the draws.

    Returns:
        int64 [sales] each: units, 0 for none; seconds since the market's first midnight.
    """
    key = sales.customer * items + sales.item
    bought, first, times = np.unique(key, return_index=True, return_counts=True)
    once = first[(times == 1) & ~np.isin(bought, known)]
    once = once[(sales.customer[once] >= 0) & (sales.without[once] > 0)]
    # A row has draws of its own, so that added rows change nothing at the others.
    is_back, wait, size = rng.random((len(key), 3)).T
    days = 1 + np.exp(2.2 + 0.7 * ndtri(wait)).astype(np.int64)
    late = sales.time + days * DAY
    chosen = once[(is_back[once] < share) & (late[once] < (span.first + span.days) * DAY)]
    units = np.zeros(len(key), np.int64)
    units[chosen] = 1 + (size * sales.without).astype(np.int64)[chosen]
    return units, late


def _at_till(sales: Response, returned: Ints, late: Ints, receipts: int) -> Purchases:
    """Put sales and returns in the order of time, on receipts numbered on from the earlier ones."""
    back = np.flatnonzero(returned)
    row = np.append(np.arange(len(sales.item)), back)
    time = np.append(sales.time, late[back])
    # A return is a receipt of its own.
    others = int(sales.basket.max(initial=-1)) + 1
    basket = np.append(sales.basket, others + np.arange(len(back)))
    order = np.lexsort((sales.item[row], basket, time))
    starts = np.append(True, np.diff(basket[order]) != 0)[: len(order)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    row = row[order]
    planted = {
        "return_netted": len(back),
        "sale_cancelled": int((returned[back] == sales.units[back]).sum()),
    }
    return Purchases(
        basket=receipts + np.cumsum(starts),
        line=np.arange(len(order)) - first + 1,
        customer=sales.customer[row],
        item=sales.item[row],
        quantity=np.append(sales.units, -returned[back])[order],
        time=time[order],
        store=sales.store[row],
        planted=planted,
    )
