"""What the simulated customers do: baskets, repeat purchases and returns, as arrays."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recsys.data.market import STORES, Flags, Floats, Ints, Market

DAY = 86_400
LINES_PER_BASKET = 5
# What repeat purchases add, so that the rows asked for come out about right.
BASE_SHARE = 0.86
DURABLE_REPEAT = 0.15


@dataclass(frozen=True)
class Purchases:
    """Rows of the till in the order of time; a basket's rows follow each other.

    Attributes:
        basket: (rows,) receipt number.
        line: (rows,) position on the receipt, from 1.
        customer: (rows,) customer, or -1 for a guest.
        item: (rows,) item.
        quantity: (rows,) units; negative for a return.
        time: (rows,) seconds since the first day's midnight, by the shop's clock.
        store: (rows,) store.
        planted: reason → rows that a correct ingest quarantines under it.
    """

    basket: Ints
    line: Ints
    customer: Ints
    item: Ints
    quantity: Ints
    time: Ints
    store: Ints
    planted: dict[str, int]


@dataclass(frozen=True)
class Baskets:
    """Visits, ordered by shopper and time; shoppers from `market.customers` on are guests."""

    shopper: Ints
    taste: Ints  # whose tastes the shopper has
    time: Ints
    store: Ints


def make_purchases(
    market: Market,
    rows: int,
    days: int,
    first_day_of_year: int,
    guest_share: float,
    return_share: float,
    rng: np.random.Generator,
) -> Purchases:
    """Draw about `rows` rows of sales and returns over `days` days."""
    baskets = _baskets(market, rows * BASE_SHARE, days, guest_share, first_day_of_year, rng)
    basket, item = basket_lines(market, baskets, first_day_of_year, rng)
    basket, item = _with_repeats(market, baskets, basket, item, rng)
    extra = np.where(market.rebuy_days[item] > 0, 0.8, 0.2)
    quantity = 1 + rng.poisson(extra)
    known = len(market.tastes)
    shopper, time, store = baskets.shopper[basket], baskets.time[basket], baskets.store[basket]
    back = _returns(market, shopper, item, quantity, time, return_share, days, rng)
    shopper = np.concatenate([shopper, shopper[back.sale]])
    customer = np.where(shopper < known, shopper, -1)
    item = np.concatenate([item, back.item])
    time = np.concatenate([time, back.time])
    store = np.concatenate([store, store[back.sale]])
    # A return is a receipt of its own.
    basket = np.concatenate([basket, len(baskets.time) + np.arange(len(back.sale))])
    order = np.lexsort((item, basket, time))
    starts = np.append(True, np.diff(basket[order]) != 0)
    first_row = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    return Purchases(
        basket=np.cumsum(starts),
        line=np.arange(len(order)) - first_row + 1,
        customer=customer[order],
        item=item[order],
        quantity=np.concatenate([quantity, -back.quantity])[order],
        time=time[order],
        store=store[order],
        planted=back.planted,
    )


def _baskets(
    market: Market,
    rows: float,
    days: int,
    guest_share: float,
    first_day_of_year: int,
    rng: np.random.Generator,
) -> Baskets:
    """Draw everyone's visits; each customer comes at least once."""
    known = len(market.tastes)
    span = market.departure - market.arrival + 1
    rate = market.activity * span
    wanted = rows / LINES_PER_BASKET * (1 - guest_share)
    visits = np.maximum(1, rng.poisson(rate / rate.sum() * wanted))
    shopper = np.repeat(np.arange(known), visits)
    guests = int(visits.sum() * guest_share / (1 - guest_share))
    taste = np.concatenate([shopper, rng.integers(0, known, guests)])
    shopper = np.concatenate([shopper, known + np.arange(guests)])
    regular = np.arange(len(shopper)) < visits.sum()
    first = np.where(regular, market.arrival[taste], 0)
    last = np.where(regular, market.departure[taste], days - 1)
    until = np.concatenate([[0.0], np.cumsum(busyness(days, first_day_of_year))])
    at = until[first] + rng.random(len(shopper)) * (until[last + 1] - until[first])
    day = np.clip(np.searchsorted(until, at, side="right") - 1, first, last)
    time = day * DAY + shop_hours(len(shopper), rng)
    store = visited_stores(market, taste, rng)
    order = np.lexsort((time, shopper))
    return Baskets(shopper[order], taste[order], time[order], store[order])


def busyness(days: int, first_day_of_year: int) -> Floats:
    """Return (days,): how busy each day is; weekends and the weeks before Christmas are more so."""
    day_of_year = (np.arange(days) + first_day_of_year) % 365
    busy = np.where(np.arange(days) % 7 >= 5, 1.6, 1.0)
    return busy * np.where((day_of_year > 320) & (day_of_year < 358), 1.5, 1.0)


def shop_hours(visits: int, rng: np.random.Generator) -> Ints:
    """Draw (visits,): seconds since midnight, while the shops are open."""
    return np.asarray((8 + 12 * rng.beta(2.2, 1.8, visits)) * 3600).astype(np.int64)


def visited_stores(market: Market, who: Ints, rng: np.random.Generator) -> Ints:
    """Draw (visits,): mostly the home store of the customer."""
    home = rng.random(len(who)) < 0.9
    return np.where(home, market.store[who], rng.integers(0, STORES, len(who)))


def basket_lines(
    market: Market, baskets: Baskets, first_day_of_year: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Fill the baskets with items; return (rows,) basket and item, ordered by basket."""
    size = 1 + rng.negative_binomial(2, 2 / (LINES_PER_BASKET + 1), len(baskets.time))
    basket = np.repeat(np.arange(len(size)), size)
    item = np.empty(len(basket), np.int64)
    week = (baskets.time // (7 * DAY))[basket]
    order = np.argsort(week, kind="stable")
    bounds = np.searchsorted(week[order], np.arange(week.max() + 2))
    mixture = np.cumsum(market.tastes, axis=1)
    count = len(market.launch)
    for w, (start, end) in enumerate(pairwise(bounds)):
        chosen = order[start:end]
        taste = _taste(mixture, baskets.taste[basket[chosen]], rng)
        # One search for all tastes: taste t's cumulated shares lie between t and t + 1.
        demand = market.demand(w, first_day_of_year) + np.arange(mixture.shape[1])[:, None]
        place = np.searchsorted(demand.ravel(), taste + rng.random(len(chosen)))
        item[chosen] = np.clip(place - taste * count, 0, count - 1)
    return _distinct(basket, item, count)


def _taste(mixture: Floats, who: Ints, rng: np.random.Generator) -> Ints:
    """Draw one taste a row from its shopper's mixture."""
    drawn = (mixture[who] < rng.random((len(who), 1))).sum(axis=1)
    return np.asarray(np.minimum(drawn, mixture.shape[1] - 1))


def _distinct(basket: Ints, item: Ints, count: int) -> tuple[Ints, Ints]:
    """Keep each item once a basket."""
    key = np.unique(basket * count + item)
    return key // count, key % count


def _with_repeats(
    market: Market, baskets: Baskets, basket: Ints, item: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Rebuy what is used up, in the first visit after it is due; seldom anything durable."""
    count, known = len(market.launch), len(market.tastes)
    shopper = baskets.shopper[basket]
    _, first = np.unique(shopper * count + item, return_index=True)
    is_first = np.zeros(len(item), bool)
    is_first[first] = True
    durable = market.rebuy_days[item] == 0
    keep = is_first | ~durable | (rng.random(len(item)) < DURABLE_REPEAT)
    source = np.flatnonzero(is_first & ~durable & (shopper < known))
    times = rng.geometric(0.3, len(source)) - 1
    again = np.repeat(source, times)
    nth = np.arange(len(again)) - np.repeat(np.cumsum(times) - times, times) + 1
    wait = market.rebuy_days[item[again]] * nth * rng.lognormal(0, 0.2, len(again))
    due = baskets.time[basket[again]] + (wait * DAY).astype(np.int64)
    # Visits are ordered by shopper and time, so one number finds a shopper's next one.
    horizon = int(baskets.time.max()) + 1
    visit = np.searchsorted(
        baskets.shopper * horizon + baskets.time,
        shopper[again] * horizon + np.minimum(due, horizon - 1),
    )
    visit_or_last = np.minimum(visit, len(baskets.time) - 1)
    good = (due < horizon) & (baskets.shopper[visit_or_last] == shopper[again])
    return _distinct(
        np.concatenate([basket[keep], visit_or_last[good]]),
        np.concatenate([item[keep], item[again][good]]),
        count,
    )


@dataclass(frozen=True)
class Returns:
    """Rows that take something back; `sale` is the row that lends shopper and store."""

    sale: Ints
    item: Ints
    quantity: Ints
    time: Ints
    planted: dict[str, int]


def _returns(
    market: Market,
    shopper: Ints,
    item: Ints,
    quantity: Ints,
    time: Ints,
    share: float,
    days: int,
    rng: np.random.Generator,
) -> Returns:
    """Draw returns; nine of ten are of an earlier sale, the others of one before the first day.

    Only items that a customer bought once are returned, so that it is certain which sale a
    return belongs to.
    """
    count = len(market.launch)
    key = shopper * count + item
    bought, first, times = np.unique(key, return_index=True, return_counts=True)
    once = first[(times == 1) & (shopper[first] < len(market.tastes))]
    wanted = int(len(item) * share)
    sale = rng.permutation(once)[: int(0.9 * wanted)]
    later = time[sale] + (1 + rng.lognormal(2.2, 0.7, len(sale))).astype(np.int64) * DAY
    sale, later = sale[later < days * DAY], later[later < days * DAY]
    partly = (quantity[sale] > 1) & (rng.random(len(sale)) < 0.5)
    units = np.where(partly, rng.integers(1, np.maximum(2, quantity[sale])), quantity[sale])

    lender = rng.permutation(np.flatnonzero(shopper < len(market.tastes)))[: wanted // 10]
    other = rng.integers(0, count, len(lender))
    unknown: Flags = ~np.isin(shopper[lender] * count + other, bought)
    lender, other = lender[unknown], other[unknown]
    return Returns(
        sale=np.concatenate([sale, lender]),
        item=np.concatenate([item[sale], other]),
        quantity=np.concatenate([units, np.ones(len(lender), np.int64)]),
        time=np.concatenate([later, time[lender]]),
        planted={
            "return_netted": len(sale),
            "sale_cancelled": int((units == quantity[sale]).sum()),
            "unmatched_return": len(lender),
        },
    )
