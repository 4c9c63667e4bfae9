"""How a retailer's customers go on after a campaign: each purchase with and without it, as arrays.

Everybody's visits are drawn as if nobody had been treated. The campaign then adds visits and units
to treated customers and keeps some who would have stopped, so it is known of each of their rows
what it would have been without:

    without   ──●─────●──────●──✕                stops coming
    with      ──●──○──●──────●─────●────○──●──    ○ added; the stop averted
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.market import Flags, Floats, Ints, Market
from recsys.data.purchases import (
    BASE_SHARE,
    DAY,
    LINES_PER_BASKET,
    Baskets,
    basket_lines,
    busyness,
    shop_hours,
    visited_stores,
)

# Lines a basket that buy again what was used up; `make_purchases` comes to as many.
REBUYS = LINES_PER_BASKET * (1 / BASE_SHARE - 1)
NEVER = np.inf


@dataclass(frozen=True)
class Lists:
    """Some items of each customer, one customer after the other.

    Attributes:
        starts: (customers + 1,) where each one's items begin and end.
        items: (entries,) items.
    """

    starts: Ints
    items: Ints

    @classmethod
    def of(cls, customer: Ints, item: Ints, customers: int) -> "Lists":
        """Collect pairs of customer and item, each (entries,)."""
        order = np.lexsort((item, customer))
        starts = np.searchsorted(customer[order], np.arange(customers + 1))
        return cls(starts, item[order])

    def draw(self, who: Ints, rng: np.random.Generator) -> Ints:
        """Draw one item of each customer's list (rows,); −1 where it is empty or nobody's."""
        chance = rng.random(len(who))
        known = np.where(who < len(self.starts) - 1, who, 0)
        size = np.where(who < len(self.starts) - 1, np.diff(self.starts)[known], 0)
        place = self.starts[known] + (chance * size).astype(np.int64)
        return np.where(size > 0, np.append(self.items, -1)[place], -1)


@dataclass(frozen=True)
class Treatment:
    """What the campaign does, and to whom.

    Attributes:
        treated: (customers,) who was.
        lists: items recommended to each customer.
        effect: relative lift of the rate of orders.
        basket_effect: relative lift of what is spent in an order.
        churn_effect: relative fall of the share of customers who stop.
        recommended_share: share of the lines of added orders that are recommended items.
    """

    treated: Flags
    lists: Lists
    effect: float
    basket_effect: float
    churn_effect: float
    recommended_share: float


@dataclass(frozen=True)
class Span:
    """The days that are drawn.

    Attributes:
        first: day, counted from the market's first.
        days: how many.
        first_day_of_year: of the market's first day.
    """

    first: int
    days: int
    first_day_of_year: int

    @property
    def busy(self) -> Floats:
        """How busy each day is, (days,)."""
        return busyness(self.first + self.days, self.first_day_of_year)[self.first :]


@dataclass(frozen=True)
class Response:
    """Rows of sales.

    Attributes:
        basket: (rows,) number of the visit.
        customer: (rows,) customer, or -1 for a guest.
        item: (rows,) item.
        time: (rows,) seconds since the market's first midnight.
        store: (rows,) store.
        units: (rows,) units bought.
        without: (rows,) units that would have been bought without the campaign.
    """

    basket: Ints
    customer: Ints
    item: Ints
    time: Ints
    store: Ints
    units: Ints
    without: Ints


def respond(
    market: Market,
    span: Span,
    rates: Floats,
    churn: float,
    guest_share: float,
    used_up: Lists,
    treatment: Treatment,
    seed: np.random.SeedSequence,
) -> Response:
    """Draw what everybody buys.

    Args:
        market: who buys there; `arrival` may lie in the span.
        span: the days.
        rates: (customers,) orders expected of each who is there all days and does not stop.
        churn: share of customers who stop at some time, each as likely as another.
        guest_share: share of visits without a card.
        used_up: items that each customer may buy again.
        treatment: what the campaign does.
        seed: of the draws.
    """
    generators = map(np.random.default_rng, seed.spawn(5))
    draw_stops, draw_visits, draw_more, draw_lines, draw_added = generators
    stops = draw_stops.random(len(rates)) < churn
    without = np.where(stops, draw_stops.random(len(rates)), NEVER)
    averted = treatment.treated & (draw_stops.random(len(rates)) < treatment.churn_effect)
    stop = np.where(averted, NEVER, without)

    base, when = _visits(market, span, rates, guest_share / (1 - guest_share), draw_visits)
    base, when = _before(base, when, stop)
    happens = when < _of(without, base.shopper, NEVER)
    basket, item = _lines(market, span, base, used_up, draw_lines)
    as_usual = _rows(market, base, basket, item, happens, treatment, draw_lines)

    more = rates * treatment.treated * treatment.effect
    added, when = _before(*_visits(market, span, more, 0.0, draw_more), stop)
    basket, item = _lines(market, span, added, used_up, draw_added)
    item = _recommended(item, added.shopper[basket], treatment, draw_added)
    never = np.zeros(len(when), bool)
    return _joined(as_usual, _rows(market, added, basket, item, never, treatment, draw_added))


def _of(values: Floats, shopper: Ints, of_guests: float) -> Floats:
    """Return the value of each visit's customer."""
    return np.append(values, of_guests)[np.minimum(shopper, len(values))]


def _before(visits: Baskets, when: Floats, stop: Floats) -> tuple[Baskets, Floats]:
    """Leave out visits after their customer stopped."""
    there = when < _of(stop, visits.shopper, NEVER)
    kept = (visits.shopper, visits.taste, visits.time, visits.store)
    return Baskets(*(values[there] for values in kept)), when[there]


def _visits(
    market: Market, span: Span, rates: Floats, guests: float, rng: np.random.Generator
) -> tuple[Baskets, Floats]:
    """Draw visits, and when in the span each is, 0 … 1 by how busy the days are."""
    until = np.concatenate([[0.0], np.cumsum(span.busy)])
    arrives = np.maximum(0, market.arrival - span.first)
    begins = until[arrives] / until[-1]
    shopper = np.repeat(np.arange(len(rates)), rng.poisson(rates * (1 - begins)))
    strangers = rng.poisson(float(rates.sum()) * guests)
    taste = np.concatenate([shopper, rng.integers(0, len(rates), strangers)])
    shopper = np.concatenate([shopper, len(rates) + np.arange(strangers)])
    first = _of(begins, shopper, 0.0)
    when = first + rng.random(len(shopper)) * (1 - first)
    day = np.clip(np.searchsorted(until, when * until[-1], side="right") - 1, 0, span.days - 1)
    time = (span.first + day) * DAY + shop_hours(len(shopper), rng)
    return Baskets(shopper, taste, time, visited_stores(market, taste, rng)), when


def _lines(
    market: Market, span: Span, visits: Baskets, used_up: Lists, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Fill the visits with items that are in demand, and with what has to be bought again."""
    if not len(visits.time):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    basket, item = basket_lines(market, visits, span.first_day_of_year, rng)
    again = np.repeat(np.arange(len(visits.time)), rng.poisson(REBUYS, len(visits.time)))
    bought = used_up.draw(visits.shopper[again], rng)
    return (
        np.concatenate([basket, again[bought >= 0]]),
        np.concatenate([item, bought[bought >= 0]]),
    )


def _recommended(item: Ints, who: Ints, treatment: Treatment, rng: np.random.Generator) -> Ints:
    """Replace a share of the rows' items by recommended ones."""
    chosen = rng.random(len(item)) < treatment.recommended_share
    shown = treatment.lists.draw(who, rng)
    return np.where(chosen & (shown >= 0), shown, item)


def _rows(
    market: Market,
    visits: Baskets,
    basket: Ints,
    item: Ints,
    happens: Flags,
    treatment: Treatment,
    rng: np.random.Generator,
) -> Response:
    """Draw units; `happens` tells of each visit whether it takes place without the campaign too."""
    # Each item once a basket.
    key = np.unique(basket * len(market.launch) + item)
    basket, item = key // len(market.launch), key % len(market.launch)
    shopper = visits.shopper[basket]
    plain = 1 + rng.poisson(np.where(market.rebuy_days[item] > 0, 0.8, 0.2))
    more = rng.poisson(plain * treatment.basket_effect)
    known = len(treatment.treated)
    treated = np.append(treatment.treated, False)[np.minimum(shopper, known)]
    return Response(
        basket=basket,
        customer=np.where(shopper < known, shopper, -1),
        item=item,
        time=visits.time[basket],
        store=visits.store[basket],
        units=plain + np.where(treated, more, 0),
        without=np.where(happens[basket], plain, 0),
    )


def _joined(base: Response, added: Response) -> Response:
    """Put added rows behind the others, their visits numbered on."""
    after = int(base.basket.max(initial=-1)) + 1
    names = ("customer", "item", "time", "store", "units", "without")
    return Response(
        np.concatenate([base.basket, after + added.basket]),
        *(np.concatenate([getattr(base, name), getattr(added, name)]) for name in names),
    )
